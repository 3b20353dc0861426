"""What else than text an encoder reads, and how a picture or a recording becomes positions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unmask.recipe.strict import Strict


class Augmentation(Strict):
    """Small changes of a picture, drawn anew each time that something is learnt from it."""

    shift: float = Field(0.0, ge=0, le=0.5, description="to each side, as a share of the side")
    rotate: float = Field(0.0, ge=0, le=180, description="to each side, in degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="larger or smaller by up to this share")
    flip: bool = Field(False, description="left and right exchanged, half of the time")


class Disturbance(Strict):
    """What is done to a recording, drawn anew each time that something is learnt from it."""

    speed: float = Field(0.0, ge=0, lt=0.5, description="faster or slower by up to this share")
    times: float = Field(
        0.1, ge=0, lt=1, description="the longest stretch of time that is hidden, as a share"
    )
    bands: float = Field(
        0.2, ge=0, lt=1, description="the widest stretch of bands that is hidden, as a share"
    )


class ImageOptions(Strict):
    """How a picture becomes patches: a position of a sequence is a square of it (ViT).

    Dosovitskiy et al., arXiv:2010.11929.
    """

    patch: int = Field(16, gt=0, description="side of a patch, in pixels")
    size: int | tuple[int, int] = Field(
        224, description="side of a picture, or height and width, in pixels: multiples of `patch`"
    )
    fit: Literal["inside", "crop", "stretch"] = Field(
        "inside",
        description="larger pictures are scaled to fit inside `size` and keep their shape, so that "
        "they have fewer patches; or each is made just so large, and what stands out is cut off; "
        "or each is stretched",
    )
    channels: Literal[1, 3] = Field(3, description="3 for colours, 1 for grey")
    positions: Literal["sinusoidal", "learned"] = Field(
        "sinusoidal", description="how a patch's row and column are told"
    )
    mean: tuple[float, ...] = Field((0.5,), description="of the values, for each channel or all")
    deviation: tuple[float, ...] = Field((0.5,), description="from that mean: they become 1")
    augment: Augmentation = Field(Augmentation(), description="changes of a picture, in training")

    @model_validator(mode="after")
    def _whole(self) -> ImageOptions:
        if min(self.shape) < self.patch or any(side % self.patch for side in self.shape):
            raise ValueError(f"size: {self.size} is no multiple of `patch` {self.patch}")
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name}: give one value, or one for each channel")
        if min(self.deviation) <= 0:
            raise ValueError("deviation: it is above 0")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """The height and width that a picture has at most, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def cells(self) -> tuple[int, int]:
        """The rows and columns of patches that a picture has at most."""
        return self.shape[0] // self.patch, self.shape[1] // self.patch

    @property
    def width(self) -> int:
        """P, the numbers in a patch."""
        return self.channels * self.patch**2


class AudioOptions(Strict):
    """How a recording becomes frames. The defaults give 25 positions a second."""

    rate: Literal[8000, 16000] = Field(
        16000, description="samples a second; all sound is brought to it"
    )
    mels: int = Field(64, ge=8, le=128, description="bands of a frame")
    window: float = Field(0.025, ge=0.005, le=0.1, description="seconds that a frame looks at")
    hop: float = Field(0.01, ge=0.0025, le=0.1, description="seconds from frame to frame")
    frames: int = Field(4, ge=1, le=32, description="frames side by side in one position")
    seconds: float = Field(20.0, gt=0, le=3600, description="of a recording that are read")
    normalise: Literal["recording", "fixed"] = Field(
        "recording",
        description="by the mean of each band of a recording and its deviation, or by `mean` and "
        "`deviation`, which leaves loudness as it is",
    )
    mean: float = Field(-8.0, description="of fixed normalisation, in log power")
    deviation: float = Field(4.0, gt=0, description="of fixed normalisation, likewise")
    augment: Disturbance = Field(Disturbance(), description="changes of a recording, in training")

    @property
    def width(self) -> int:
        """F, the numbers in a position."""
        return self.frames * self.mels
