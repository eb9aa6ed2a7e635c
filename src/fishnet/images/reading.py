"""How image files are read, for a dataset or a prediction."""

from dataclasses import dataclass
from typing import Literal

SixteenBit = Literal["shift", "stretch", "stretch-each"]
SIXTEEN_BIT: tuple[SixteenBit, ...] = ("shift", "stretch", "stretch-each")
MAX_PIXELS = 178_956_970
"""Default maximum number of pixels of an image: Pillow's own limit."""


@dataclass(frozen=True)
class Reading:
    """How image files become 8-bit images, how large they may be, and in what size they are decoded.

    Attributes:
        sixteen_bit: how more than 8 bits per channel are converted, for 1 and 3 channels. ``shift``: to the upper 8 of
            16 bits. ``stretch``: ``value_range`` to 0..255, the same for all images; without a range like
            ``stretch-each``. ``stretch-each``: each image's own 0.1st to 99.9th percentile to 0..255.
        value_range: the values that become 0 and 255.
        max_pixels: maximum number of pixels of an image, set by the user; it is then the only limit. None:
            :data:`MAX_PIXELS`, and images that take more than 1 GB to decode are refused too.
        min_side: minimum length of both sides, px. A JPEG file is decoded at a half, a quarter or an eighth of its size
            if that is large enough, which is several times as fast. 0: at its own size.
    """

    sixteen_bit: SixteenBit = "shift"
    value_range: tuple[float, float] | None = None
    max_pixels: int | None = None
    min_side: int = 0


DEFAULT = Reading()
