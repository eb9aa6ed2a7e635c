"""From what the user names to data with label maps: which format it is, and its train, val and test parts."""

from collections.abc import Sequence

from fishnet.data.labels import Classes
from fishnet.data.pixels.base import PixelSet


def open_pixels(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    whole: bool = False,
    ignore: Sequence[int] = (),
    void: Sequence[str] = (),
    problems: list[str] | None = None,
) -> dict[str, PixelSet]:
    """Being written."""
    raise NotImplementedError
