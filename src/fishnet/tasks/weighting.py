"""Weights that make up for rare classes."""

import torch
from torch import Tensor


def class_weights(kind: str, counts: Tensor, totals: Tensor) -> Tensor | None:
    """(classes,) weights of a loss, or None for ``none``; classes that never occur weigh 0.

    Args:
        kind: ``none``; ``balanced``, the total over classes times count, so that each class counts alike; ``median``,
            the median frequency over the class's own (arXiv 1411.4734, section 6.3.2).
        counts: (classes,) how often each class occurs.
        totals: (classes,) how much there is in all where the class occurs, of which its frequency is a share.
    """
    if kind == "none":
        return None
    there = counts > 0
    weights = torch.zeros(len(counts))
    if kind == "balanced":
        weights[there] = counts.sum() / (len(counts) * counts[there])
    else:
        frequencies = counts[there] / totals[there]
        weights[there] = frequencies.median() / frequencies
    return weights
