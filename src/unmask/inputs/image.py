"""Pictures in: decoded under caps, brought to size, and cut into patches."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unmask.batch import Segment
from unmask.errors import UserError
from unmask.inputs.augment import changed
from unmask.inputs.cells import bytes_of
from unmask.inputs.modalities import Outline, digest
from unmask.recipe import ImageOptions

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 32 << 20  # of a file
MAX_PIXELS = 64_000_000  # of a picture: 192 MB once it is decoded
MAX_SCANS = 100  # of a JPEG: each is a pass over all pixels, in no more than some bytes
MAX_EXIF = 64  # parts of a picture; joining them takes Pillow the square of their number
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no format that runs a program
_ORIENTATION = 0x0112  # EXIF's tag: from 5 on, rows are columns


class ImageInput:
    """How one encoder reads pictures."""

    cuttable = False

    def __init__(self, options: ImageOptions) -> None:
        self.options = options
        self.files = True
        self._mean = np.array(options.mean, dtype=np.float32)
        self._deviation = np.array(options.deviation, dtype=np.float32)

    @property
    def width(self) -> int:
        """P, the numbers in a patch."""
        return self.options.width

    def segment(self, cell: Any, rng: np.random.Generator | None) -> tuple[Segment, int]:
        """The patches of the picture in a cell, row by row: (n, P); nothing is ever cut off."""
        values = self.values(cell, rng)  # (H, W, channels)
        patches, place = cut(values, self.options.patch)
        return Segment(patches, modality="image", place=place), 0

    def outline(self, cell: Any) -> Outline:
        """The number of patches and pixels, by the header."""
        data = bytes_of(cell, "picture", MAX_BYTES, self.files)
        with _opened(data) as picture:
            width, height = picture.size
            # A PNG's may stand behind its pixels; of a TIFF Pillow gives the upright size.
            exif = {} if picture.format in ("PNG", "TIFF") else picture.getexif()
            turn = exif.get(_ORIENTATION)
        if isinstance(turn, int) and turn >= 5:  # lies on its side
            width, height = height, width
        wide, high = fitted_size(width, height, self.options)
        patches = math.ceil(wide / self.options.patch) * math.ceil(high / self.options.patch)
        return Outline(patches, 0, width * height + len(data), digest(data))

    def values(self, cell: Any, rng: np.random.Generator | None = None) -> np.ndarray:
        """The picture as the encoder sees it, normalised: (H, W, channels) float32."""
        picture = fitted(decode(bytes_of(cell, "picture", MAX_BYTES, self.files)), self.options)
        pixels = np.asarray(picture.convert("RGB" if self.options.channels == 3 else "L"))
        if rng is not None:
            pixels = changed(pixels, self.options.augment, rng)
        values = pixels.reshape(*pixels.shape[:2], self.options.channels) / np.float32(255)
        return (values - self._mean) / self._deviation


def decode(data: bytes) -> Image.Image:
    """The picture that a file holds, upright, in RGB or grey, and without transparency.

    Of an animation it is the first frame; what is transparent lies on white. Everything that keeps
    it from being read is a UserError. The size is known, and refused, before pixels are decoded.
    """
    with _opened(data) as picture:
        from PIL import ImageOps

        picture.load()
        return _plain(ImageOps.exif_transpose(picture))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture of which only the header was read; whatever is wrong with it is a UserError."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UserError("pictures need the extra `image`: pip install 'unmask[image]'") from None
    if (parts := data.count(b"Exif\0\0")) > MAX_EXIF:
        raise UserError(f"a picture with {parts} parts of EXIF, and at most {MAX_EXIF} are read")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"a picture of {width} × {height} pixels, and at most {MAX_PIXELS:,} are "
                    "decoded; make it smaller"
                )
            if picture.format in ("JPEG", "MPO") and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
                raise UserError(
                    f"a JPEG of {scans} scans, and at most {MAX_SCANS} are decoded; save it anew"
                )
            yield picture
    except UserError:
        raise
    except Exception as error:  # a broken file can raise nearly anything inside a decoder
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if "cannot identify" in reason:
            reason = f"its {len(data)} bytes are none of {', '.join(FORMATS)}"
        raise UserError(f"no picture that can be read: {reason}; fetch it again") from None


def _plain(picture: Image.Image) -> Image.Image:
    """The picture in RGB or in grey of 8 bits, on white where it is transparent."""
    from PIL import Image

    if picture.mode.startswith("I"):  # grey of 16 bits, or in a wider type
        pixels = np.asarray(picture, dtype=np.float64)
        if pixels.min() < 0 or pixels.max() > 65_535:
            raise UserError("its pixels are not between 0 and 65,535; save it with 8 or 16 bits")
        return Image.fromarray((pixels / 257).round().astype(np.uint8))
    if picture.mode == "F":
        raise UserError("its pixels are fractions; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, clear).convert("RGB")
    return picture if picture.mode == "L" else picture.convert("RGB")


def fitted(picture: Image.Image, options: ImageOptions) -> Image.Image:
    """The picture brought to size, as `fit` says."""
    from PIL import Image, ImageOps

    size = fitted_size(picture.width, picture.height, options)
    if options.fit == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    if size == picture.size and options.fit == "inside":
        return picture
    return picture.resize(size, Image.Resampling.BILINEAR)


def fitted_size(width: int, height: int, options: ImageOptions) -> tuple[int, int]:
    """The width and height that a picture of this size is brought to."""
    most_high, most_wide = options.shape
    if options.fit != "inside":
        return most_wide, most_high
    share = min(most_wide / width, most_high / height, 1)
    return max(1, round(width * share)), max(1, round(height * share))


def cut(values: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, C) as patches (n, C · patch²) and their rows and columns (n, 2).

    What a last row or column lacks to a whole patch is 0, the mean. In a patch the channels come
    first, as in ViT's convolution.
    """
    height, width, channels = values.shape
    values = np.pad(values, ((0, -height % patch), (0, -width % patch), (0, 0)))
    rows, columns = values.shape[0] // patch, values.shape[1] // patch
    parts = values.reshape(rows, patch, columns, patch, channels).transpose(0, 2, 4, 1, 3)
    place = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    return np.ascontiguousarray(parts.reshape(rows * columns, -1), dtype=np.float32), place
