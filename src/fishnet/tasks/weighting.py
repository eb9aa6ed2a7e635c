"""Weights that make up for rare classes."""

import torch
from torch import Tensor


def class_weights(kind: str, counts: Tensor, totals: Tensor) -> Tensor | None:
    """(classes,) weights of a loss, or None for ``none``.

    Args:
        kind: ``none``; ``balanced``, the total over classes times count, so that each class counts alike; ``median``,
            the median frequency over the class's own (arXiv 1411.4734, section 6.3.2).
        counts: (classes,) how often each class occurs; classes that do not weigh 0 with ``median``.
        totals: (classes,) how much there is in all where the class occurs, of which its frequency is a share.
    """
    if kind == "none":
        return None
    if kind == "balanced":
        counts = counts.clamp(min=1)
        return counts.sum() / (len(counts) * counts)
    there = counts > 0
    frequencies = counts / totals.clamp(min=1)
    weights = torch.zeros(len(counts))
    weights[there] = (frequencies[there].median() / frequencies[there]).float()
    return weights
