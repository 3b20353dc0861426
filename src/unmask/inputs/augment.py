"""Small changes of a picture that leave what it shows as it is."""

from __future__ import annotations

import math

import numpy as np

from unmask.recipe import Augmentation


def changed(pixels: np.ndarray, options: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """The picture (H, W) or (H, W, 3) shifted, turned, scaled and flipped, as drawn from `rng`.

    All in one step, so that it is sampled once; what comes in from outside is like the edge.
    """
    if options.flip and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if not (options.shift or options.rotate or options.scale):
        return pixels
    from PIL import Image

    height, width = pixels.shape[:2]
    right, down = rng.uniform(-options.shift, options.shift, 2) * (width, height)
    angle = math.radians(rng.uniform(-options.rotate, options.rotate))
    scale = 1 / (1 + rng.uniform(-options.scale, options.scale))
    beside, above = width, height  # room for what comes in, in pixels
    room = ((above, above), (beside, beside), (0, 0))[: pixels.ndim]
    wide = Image.fromarray(np.pad(pixels, room, mode="edge"))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    x, y = width / 2, height / 2
    # Where in the wide picture a pixel comes from: turned about the middle, then shifted.
    across = (cos, sin, x + beside - right - cos * x - sin * y)
    along = (-sin, cos, y + above - down + sin * x - cos * y)
    found = wide.transform(
        (width, height), Image.Transform.AFFINE, (*across, *along), Image.Resampling.BILINEAR
    )
    return np.asarray(found)
