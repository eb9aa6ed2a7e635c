"""Windows of images drawn at random. Draws from torch's global generator."""

import torch

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in px of an image: whole numbers, right and bottom outside."""


def happens(probability: float) -> bool:
    """True with this probability, 0..1."""
    return bool(torch.rand(()) < probability)


def uniform(low: float, high: float) -> float:
    """A number between two."""
    return low + (high - low) * float(torch.rand(()))


def part_of(window: Window, size: tuple[int, int], kept: Window | None) -> Window:
    """A part of a window, of that height and width, at a random place; what is to be kept is within if it fits."""
    starts = []
    for axis, length in ((0, size[1]), (1, size[0])):
        low, high = window[axis], window[axis + 2] - length
        if kept is not None and kept[axis + 2] - kept[axis] <= length:
            low, high = max(low, kept[axis + 2] - length), min(high, kept[axis])
        starts.append(int(torch.randint(low, high + 1, ())))
    return starts[0], starts[1], starts[0] + size[1], starts[1] + size[0]


def resized(window: Window, scale: float) -> tuple[int, int]:
    """Height and width of a window at a scale, px."""
    return max(1, round((window[3] - window[1]) * scale)), max(1, round((window[2] - window[0]) * scale))


def fitting(window: Window, scale: float, room: tuple[int, int], kept: Window | None) -> tuple[Window, tuple[int, int]]:
    """As much of a window as a room of that height and width holds at a scale, at a random place, and its size there.

    Where whole pixels make it a little larger than the room, it is resized into it.
    """
    size = (
        min(window[3] - window[1], max(1, round(room[0] / scale))),
        min(window[2] - window[0], max(1, round(room[1] / scale))),
    )
    part = part_of(window, size, kept)
    height, width = resized(part, scale)
    return part, (min(height, room[0]), min(width, room[1]))
