"""What the tests of segmentation metrics share: random label maps, and logits that predict them."""

import numpy as np
import torch
from numpy.typing import NDArray

from fishnet.data.segmentation.base import IGNORE, SegmentationTarget
from fishnet.images.preprocess import Placement

Labels = NDArray[np.uint8]


def blobs(seed: int, size: tuple[int, int], classes: int, ignored: float = 0.1) -> Labels:
    """Overlapping rectangles of the first ``classes`` classes, some one or two px wide; some px are ignored."""
    random = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint8)
    for _ in range(12):
        height, width = (int(random.integers(1, max(2, side // 2))) for side in size)
        top, left = (int(random.integers(0, side)) for side in size)
        labels[top : top + height, left : left + width] = random.integers(0, classes)
    if ignored:
        labels[random.random(size) < ignored] = IGNORE
    return labels


def target(truth: Labels, placement: Placement | None = None) -> SegmentationTarget:
    """An image's validation target; by default the image itself is the input, padded to a multiple of 32."""
    height, width = truth.shape
    outer = -(-height // 32) * 32, -(-width // 32) * 32
    return SegmentationTarget(
        torch.from_numpy(truth), truth, placement or Placement((height, width), (height, width), outer)
    )


def logits_of(predicted: Labels, classes: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(classes, *size) logits that predict these labels, and the last class in the padding."""
    logits = np.zeros((classes, *size), np.float32)
    logits[-1] = 3
    height, width = predicted.shape
    logits[:, :height, :width] = 4 * (np.arange(classes)[:, None, None] == predicted)
    return logits
