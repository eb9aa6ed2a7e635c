"""COCO's run-length encoding of masks, in NumPy, so that results need no compiled package. Torch-free.

The format is that of the COCO API's ``maskApi.c``. A mask is flattened column by column and stored as the lengths of
alternating runs of 0 and 1, beginning with 0. In the compressed text each length but the first three is the difference
from the one two before it, in base 32, lowest digit first. Each digit is a character from ``0`` on, plus 32 where more
digits follow.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def runs(bits: NDArray[np.bool_], size: tuple[int, int], top: int = 0, left: int = 0) -> list[int]:
    """The run lengths of a mask, computed without building the whole mask.

    Args:
        bits: (h, w), a rectangle of the mask; the rest is 0.
        size: height and width of the mask, px.
        top, left: where the rectangle begins, px; it lies inside the mask.
    """
    height, width = size
    edges = np.diff(np.pad(bits.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # 1 where ones begin, -1 after their end
    columns, rows = np.nonzero(edges)  # beginnings and ends in turn
    places = (columns + left) * height + rows + top
    if len(places):  # a run to the bottom continues at the next column's top
        continues = (places[1:-1:2] == places[2::2]).repeat(2)
        places = places[np.concatenate([[True], ~continues, [True]])]
    lengths: list[int] = np.diff(places, prepend=0, append=height * width).tolist()
    return lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths


def compress(lengths: Sequence[int]) -> str:
    """Run lengths as COCO's compressed text."""
    text: list[str] = []
    for i, length in enumerate(lengths):
        rest, more = length - (lengths[i - 2] if i > 2 else 0), True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)  # 16 is the sign's bit
            text.append(chr(48 + digit + 32 * more))
    return "".join(text)


def encode(bits: NDArray[np.bool_], size: tuple[int, int], top: int = 0, left: int = 0) -> dict[str, object]:
    """A mask, given as for :func:`runs`, as ``{"size": [height, width], "counts": text}``."""
    return {"size": list(size), "counts": compress(runs(bits, size, top, left))}


def runs_of(text: bytes) -> NDArray[np.int64]:
    """The run lengths in COCO's compressed text.

    Raises:
        ValueError: the text is not such an encoding.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not a compressed run-length encoding")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise ValueError("not a compressed run-length encoding")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def box_of(runs: NDArray[np.int64], height: int) -> tuple[float, float, float, float]:
    """The bounding box of a mask: x1, y1, x2, y2 in px; all 0 for an empty one.

    Args:
        runs: run lengths.
        height: height of the mask, px.
    """
    edges = np.cumsum(runs)
    firsts, lasts = edges[0:-1:2], edges[1::2] - 1
    filled = lasts >= firsts
    firsts, lasts = firsts[filled], lasts[filled]
    if not len(firsts):
        return 0, 0, 0, 0
    x1, x2 = firsts[0] // height, lasts[-1] // height
    tall = (firsts // height != lasts // height).any()  # a run past the bottom of a column touches both edges
    y1, y2 = (0, height - 1) if tall else ((firsts % height).min(), (lasts % height).max())
    return float(x1), float(y1), float(x2 + 1), float(y2 + 1)
