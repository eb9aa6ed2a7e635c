"""Merges instances and a label map into one panoptic segmentation. Torch-free."""

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.panoptic import PanopticConfig
from fishnet.errors import InputError
from fishnet.images.segment_ids import VOID
from fishnet.prediction.drawing.labels import count_labels
from fishnet.prediction.results import Detections, Segmentation
from fishnet.prediction.results.detections import CroppedMask
from fishnet.prediction.results.panoptic import Panoptic

_TAKEN = 255  # no class of a label map has this label


def merge(detections: Detections, label_map: Segmentation, config: PanopticConfig) -> Panoptic:
    """Merges the results of the heads ``instances`` and ``segment`` by the rule of Panoptic FPN.

    The instances whose score reaches ``config.score_threshold`` take their pixels, the best first. Each gets those that
    no better one has taken, and is dropped if more than ``config.overlap_threshold`` of its pixels are taken. Stuff
    gets its pixels of the label map that remain, and is left out if these are fewer than ``config.stuff_area``. All
    other pixels are void, also those that the label map calls things but no instance took. ``config.mask_threshold``
    has its effect earlier, in :meth:`~fishnet.prediction.results.Detections.from_raw`.

    Sources: Kirillov et al., "Panoptic Segmentation" (arXiv 1801.00868), section 7, and "Panoptic Feature Pyramid
    Networks" (arXiv 1901.02446).

    Args:
        detections: with masks, of the same image as the label map.
        label_map: the first class is all things, the others are the stuff.
        config: the segment classes and thresholds.

    Raises:
        InputError: no masks, other classes than the config's, or different sizes.
    """
    config.check(detections.classes, label_map.classes)
    if detections.cropped_masks is None:
        raise InputError("panoptic segmentation needs masks: these detections are boxes only")
    if detections.size != label_map.size:
        (height, width), (rows, columns) = detections.size, label_map.size
        raise InputError(
            f"detections of an image of {width}x{height} px cannot be merged with a label map of {columns}x{rows} px"
        )
    things = [i for i, one in enumerate(config.segments) if one.is_thing]
    stuff = [i for i, one in enumerate(config.segments) if not one.is_thing]
    ids = np.zeros(detections.size, np.int32)
    labels: dict[int, int] = {}
    scores: dict[int, float] = {}
    valid = detections.scores >= config.score_threshold
    order = np.argsort(-detections.scores, kind="stable")
    for i in order[valid[order]].tolist():
        number = len(labels) + 1
        if _place(detections.cropped_masks[i], ids, number, config.overlap_threshold):
            labels[number] = things[int(detections.labels[i])]
            scores[number] = float(detections.scores[i])
    remaining = np.where(ids == VOID, label_map.labels, np.uint8(_TAKEN))
    areas = count_labels(remaining)
    numbers = np.zeros(256, np.int32)  # of each label
    for label, index in enumerate(stuff, 1):
        if areas[label] >= max(1, config.stuff_area):
            numbers[label] = len(labels) + 1
            labels[int(numbers[label])] = index
    ids += numbers[remaining]
    return Panoptic.from_ids(ids, labels, config, scores)


def _place(cropped_mask: CroppedMask, ids: NDArray[np.int32], number: int, overlap_threshold: float) -> bool:
    """Gives an instance its pixels that are still free. Returns False, and gives none, if too few of them are."""
    bits, top, left = cropped_mask.bits, cropped_mask.top, cropped_mask.left
    region = ids[top : top + bits.shape[0], left : left + bits.shape[1]]
    free = bits & (region == VOID)
    area, remaining = int(np.count_nonzero(bits)), int(np.count_nonzero(free))
    if not remaining or (area - remaining) / area > overlap_threshold:
        return False
    region[free] = number
    return True
