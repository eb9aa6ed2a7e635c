"""COCO's run-length encoding of masks, written here so that results need no compiled package. Torch-free.

The format is that of the COCO API's ``maskApi.c``: a mask's columns one below the other, as lengths of alternating runs
of 0 and 1, beginning with 0; each length but the first three as the difference from the one two before it, as a number
to base 32, lowest digit first, each digit a character from ``0`` on, with 32 added where more digits follow.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def runs(bits: NDArray[np.bool_], size: tuple[int, int], top: int = 0, left: int = 0) -> list[int]:
    """The lengths of a mask's runs, without making the whole mask.

    Args:
        bits: (h, w), a part of the mask; the rest is 0.
        size: height and width of the mask, px.
        top, left: where the part begins, px; it lies inside the mask.
    """
    height, width = size
    edges = np.diff(np.pad(bits.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # 1 where ones begin, -1 after their end
    columns, rows = np.nonzero(edges)  # begin and end in turn
    places = (columns + left) * height + rows + top
    if len(places):  # a run to the bottom goes on at the next column's top
        goes_on = (places[1:-1:2] == places[2::2]).repeat(2)
        places = places[np.concatenate([[True], ~goes_on, [True]])]
    lengths: list[int] = np.diff(places, prepend=0, append=height * width).tolist()
    return lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths


def compress(lengths: Sequence[int]) -> str:
    """COCO's compressed text for the lengths of runs."""
    text: list[str] = []
    for i, length in enumerate(lengths):
        rest, more = length - (lengths[i - 2] if i > 2 else 0), True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)  # 16 is the sign's bit
            text.append(chr(48 + digit + 32 * more))
    return "".join(text)


def encode(bits: NDArray[np.bool_], size: tuple[int, int], top: int = 0, left: int = 0) -> dict[str, object]:
    """``{"size": [height, width], "counts": text}`` of a mask given as in :func:`runs`."""
    return {"size": list(size), "counts": compress(runs(bits, size, top, left))}


def runs_of(text: bytes) -> NDArray[np.int64]:
    """The lengths of the runs in COCO's compressed text.

    Raises:
        ValueError: no such text.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no compressed run-length encoding")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise ValueError("no compressed run-length encoding")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def box_of(runs: NDArray[np.int64], height: int) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around a mask, in px; all 0 around an empty one.

    Args:
        runs: lengths of the runs of 0 and 1.
        height: of the mask.
    """
    edges = np.cumsum(runs)
    firsts, lasts = edges[0:-1:2], edges[1::2] - 1
    some = lasts >= firsts
    firsts, lasts = firsts[some], lasts[some]
    if not len(firsts):
        return 0, 0, 0, 0
    x1, x2 = firsts[0] // height, lasts[-1] // height
    tall = (firsts // height != lasts // height).any()  # a run over the foot of a column touches both edges
    y1, y2 = (0, height - 1) if tall else ((firsts % height).min(), (lasts % height).max())
    return float(x1), float(y1), float(x2 + 1), float(y2 + 1)
