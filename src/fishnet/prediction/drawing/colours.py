"""Distinct colours for classes."""

import functools

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (  # Okabe and Ito's "Color Universal Design" (2008)
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178), (204, 121, 167),
)  # fmt: skip


def colour_of(number: int) -> Colour:
    """The colour of class ``number``: seven that colour-blind people can distinguish, then lighter and darker ones."""
    turn, index = divmod(number, len(PALETTE))
    shade, share = ((0, 0.0), (255, 0.5), (0, 0.45))[turn % 3]
    red, green, blue = (round(value + (shade - value) * share) for value in PALETTE[index])
    return red, green, blue


def label_colour(number: int) -> Colour:
    """The colour of class ``number`` in a label map. 255 colours differ, each as far as possible from those before it.

    The first seven are those of :func:`colour_of`. Distance is measured in OKLab (Ottosson, "A perceptual color space
    for image processing", 2020), and nearly black or white colours are left out.
    """
    red, green, blue = _distant_colours()[number % _MAX_CLASSES].tolist()
    return red, green, blue


_MAX_CLASSES = 255  # of a label map


@functools.cache
def _distant_colours() -> NDArray[np.int64]:
    """(255, 3) 0..255."""
    axis = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    colours = np.array(PALETTE)
    lab = _oklab(grid)
    bright = (lab[:, 0] > 0.45) & (lab[:, 0] < 0.88)
    grid, lab = grid[bright], lab[bright]
    distance = np.linalg.norm(lab[:, None] - _oklab(colours), axis=2).min(1)
    for _ in range(_MAX_CLASSES - len(colours)):
        best = int(distance.argmax())
        colours = np.vstack([colours, grid[best]])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return colours


def _oklab(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 3) sRGB, 0..255 -> (n, 3) lightness 0..1, green to red, blue to yellow."""
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    result: NDArray[np.float64] = cones @ _TO_LAB.T
    return result


_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip
