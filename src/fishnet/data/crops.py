"""Random windows of images. All random numbers come from torch's global generator."""

import torch

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in px of an image, integers; right and bottom are exclusive."""


def random_bool(probability: float) -> bool:
    """True with the given probability, 0..1."""
    return bool(torch.rand(()) < probability)


def uniform(low: float, high: float) -> float:
    """A random number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand(()))


def random_crop(window: Window, size: tuple[int, int], kept: Window | None) -> Window:
    """A random crop of a window, with height and width ``size``. It contains ``kept`` if the crop is large enough."""
    starts = []
    for axis, length in ((0, size[1]), (1, size[0])):
        low, high = window[axis], window[axis + 2] - length
        if kept is not None and kept[axis + 2] - kept[axis] <= length:
            low, high = max(low, kept[axis + 2] - length), min(high, kept[axis])
        starts.append(int(torch.randint(low, high + 1, ())))
    return starts[0], starts[1], starts[0] + size[1], starts[1] + size[0]


def scaled_size(window: Window, scale: float) -> tuple[int, int]:
    """Height and width of a window at a scale, px."""
    return max(1, round((window[3] - window[1]) * scale)), max(1, round((window[2] - window[0]) * scale))


def crop_to_fit(
    window: Window, scale: float, limit: tuple[int, int], kept: Window | None
) -> tuple[Window, tuple[int, int]]:
    """A random crop of a window that is no larger than ``limit`` once scaled, and its scaled height and width.

    The crop is as large as the limit allows. The scaled size is clipped to the limit if rounding exceeds it.

    Args:
        window: the window of the image to crop.
        scale: factor from px of the image to px of the scaled crop.
        limit: largest height and width of the scaled crop, px.
        kept: a window that the crop contains if it is large enough.
    """
    size = (
        min(window[3] - window[1], max(1, round(limit[0] / scale))),
        min(window[2] - window[0], max(1, round(limit[1] / scale))),
    )
    crop = random_crop(window, size, kept)
    height, width = scaled_size(crop, scale)
    return crop, (min(height, limit[0]), min(width, limit[1]))
