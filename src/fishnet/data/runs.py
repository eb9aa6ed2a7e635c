"""Run-length encodings of masks, as COCO has them: column by column, runs of 0 and 1 in turn. Torch-free."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fishnet.data.objects import Segmentation


def runs_of(text: bytes) -> NDArray[np.int64]:
    """The runs of COCO's compressed text.

    Each character holds five bits of a number and whether it goes on; from the fourth on, numbers are differences to
    the one before the last (maskApi.c of the COCO API describes it).

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


@dataclass(frozen=True)
class Instances:
    """The objects of a map of ids, in the order of their ids.

    Attributes:
        ids: (n,) int64.
        boxes: (n, 4) float32 x1, y1, x2, y2 in px, tight: x2 and y2 lie behind the last pixel.
        areas: (n,) float64, pixels.
        segmentations: run-length encodings, as lists.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float64]
    segmentations: tuple[Segmentation, ...]


def instances(map_: NDArray[np.integer], background: tuple[int, ...] = (0,)) -> Instances:
    """The objects of a map of ids: each id makes one, of one piece or of several.

    Args:
        map_: (height, width), whole numbers.
        background: ids that are no objects.
    """
    height, width = map_.shape
    flat = map_.T.reshape(-1)
    places = np.flatnonzero(~np.isin(flat, background))
    values = flat[places]
    order = np.argsort(values, kind="stable")  # the places of each id stay in order
    ids, starts = np.unique(values[order], return_index=True)
    pieces = np.split(places[order], starts[1:]) if len(ids) else []
    boxes, shapes = [], []
    for piece in pieces:
        x, y = piece // height, piece % height
        boxes.append((x[0], y.min(), x[-1] + 1, y.max() + 1))
        gaps = np.flatnonzero(np.diff(piece) > 1)
        firsts, lasts = piece[np.concatenate([[0], gaps + 1])], piece[np.concatenate([gaps, [len(piece) - 1]])]
        edges = np.stack([firsts, lasts + 1], 1).reshape(-1)
        runs = np.diff(edges, prepend=0, append=height * width)
        shapes.append({"size": [height, width], "counts": runs.tolist()})
    return Instances(
        ids.astype(np.int64),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray([len(piece) for piece in pieces], np.float64),
        tuple(shapes),
    )
