"""How image files are read, for a dataset or a prediction."""

from dataclasses import dataclass
from typing import Literal

SixteenBit = Literal["shift", "stretch", "stretch-each"]
SIXTEEN_BIT: tuple[SixteenBit, ...] = ("shift", "stretch", "stretch-each")
MAX_PIXELS = 178_956_970
"""Default limit of an image's px: above it Pillow refuses by itself."""


@dataclass(frozen=True)
class Reading:
    """How image files become 8-bit images, and how large they may be.

    Attributes:
        sixteen_bit: what becomes of more than 8 bits a channel, for 1 and 3 channels. ``shift``: the upper 8 of 16
            bits. ``stretch``: ``value_range`` as 0 to 255, the same for all images; without one as ``stretch-each``.
            ``stretch-each``: each image's own 0.1st to 99.9th percentile as 0 to 255.
        value_range: the values that become 0 and 255.
        max_pixels: limit of an image set by the user, which is then the only one. None: :data:`MAX_PIXELS`, and images
            that take more than 1 GB to decode are refused too.
    """

    sixteen_bit: SixteenBit = "shift"
    value_range: tuple[float, float] | None = None
    max_pixels: int | None = None


DEFAULT = Reading()
