"""Class weights that compensate for rare classes."""

import torch
from torch import Tensor


def class_weights(kind: str, counts: Tensor, totals: Tensor) -> Tensor | None:
    """(classes,) class weights of a loss; None for ``none``. Classes that never occur have weight 0.

    Args:
        kind: ``none``; ``balanced``, total / (number of classes * count), so that all classes have the same weight in
            total; ``median``, median frequency / frequency (arXiv 1411.4734, section 6.3.2).
        counts: (classes,) number of images or pixels of each class.
        totals: (classes,) for each class, the number of labelled pixels of all images that have it, or the number
            of all images. The class's frequency is its count divided by this.
    """
    if kind == "none":
        return None
    present = counts > 0
    weights = torch.zeros(len(counts))
    if kind == "balanced":
        weights[present] = counts.sum() / (len(counts) * counts[present])
    else:
        frequencies = counts[present] / totals[present]
        weights[present] = frequencies.median() / frequencies
    return weights
