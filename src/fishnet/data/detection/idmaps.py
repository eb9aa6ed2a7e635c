"""Maps of ids, in which each id is an object. Torch-free."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.objects import Segmentation
from fishnet.errors import InputError

MOST = 20_000  # objects of an image


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

    Raises:
        InputError: more ids than an image has objects, such as a photograph's values.
    """
    height, width = map_.shape
    flat = map_.T.reshape(-1)
    places = np.flatnonzero(~np.isin(flat, background))
    values = flat[places]
    order = np.argsort(values, kind="stable")  # the places of each id stay in order
    ids, starts = np.unique(values[order], return_index=True)
    if len(ids) > MOST:
        raise InputError(f"holds {len(ids):,} numbers: objects are numbered, at most {MOST:,} in an image")
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
