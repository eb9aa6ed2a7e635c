"""Instance maps, in which each id is an object. Torch-free."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.objects import Segmentation
from fishnet.errors import InputError

MAX_OBJECTS = 20_000  # per image


@dataclass(frozen=True)
class Instances:
    """The objects of an instance map, in the order of their ids.

    Attributes:
        ids: (n,) int64.
        boxes: (n, 4) float32 x1, y1, x2, y2 in px, tight: x2 and y2 are one past the last pixel.
        areas: (n,) float64, pixels.
        segmentations: run-length encodings with lists of counts.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float64]
    segmentations: tuple[Segmentation, ...]


def instances(id_map: NDArray[np.integer], background: tuple[int, ...] = (0,)) -> Instances:
    """Extracts the objects of an instance map. Each id is one object, whether connected or not.

    Args:
        id_map: (height, width), integers.
        background: ids that are not objects.

    Raises:
        InputError: too many ids for an instance map, such as the values of a photograph.
    """
    height, width = id_map.shape
    flat = id_map.T.reshape(-1)
    foreground = np.flatnonzero(~np.isin(flat, background))
    values = flat[foreground]
    order = np.argsort(values, kind="stable")  # keeps the pixels of each id in order
    ids, starts = np.unique(values[order], return_index=True)
    if len(ids) > MAX_OBJECTS:
        raise InputError(f"has {len(ids):,} ids: a mask of numbered objects has at most {MAX_OBJECTS:,}")
    pixels_by_id = np.split(foreground[order], starts[1:]) if len(ids) else []
    boxes, segmentations = [], []
    for pixels in pixels_by_id:
        x, y = pixels // height, pixels % height
        boxes.append((x[0], y.min(), x[-1] + 1, y.max() + 1))
        gaps = np.flatnonzero(np.diff(pixels) > 1)
        firsts, lasts = pixels[np.concatenate([[0], gaps + 1])], pixels[np.concatenate([gaps, [len(pixels) - 1]])]
        edges = np.stack([firsts, lasts + 1], 1).reshape(-1)
        runs = np.diff(edges, prepend=0, append=height * width)
        segmentations.append({"size": [height, width], "counts": runs.tolist()})
    return Instances(
        ids.astype(np.int64),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray([len(pixels) for pixels in pixels_by_id], np.float64),
        tuple(segmentations),
    )
