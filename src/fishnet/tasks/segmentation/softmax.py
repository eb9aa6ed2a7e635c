"""What the losses over pixels need of the softmax, with one tensor of full resolution kept for the backward pass."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fishnet.data.segmentation.base import IGNORE


class PixelScores(NamedTuple):
    """The softmax over classes at each pixel, in short.

    Attributes:
        log_probability: (batch, height, width) of each pixel's own class; 0 where the label is ignored.
        sums: (classes,) probabilities, added over the pixels that are not ignored.
    """

    log_probability: Tensor
    sums: Tensor


def pixel_scores(logits: Tensor, labels: Tensor) -> PixelScores:
    """The scores that cross-entropy and Dice loss are computed from.

    Through torch's own functions, both losses together keep and write several tensors of the logits' size and a
    one-hot one of the labels.

    Args:
        logits: (batch, classes, height, width) float32 or float64.
        labels: (batch, height, width) int64; 255 is ignored.
    """
    return PixelScores(*_PixelScores.apply(logits, labels))


class _PixelScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counted = labels != IGNORE
        own = torch.where(counted, labels, 0)[:, None]
        log_probabilities = logits.log_softmax(1)
        log_probability = torch.where(counted, log_probabilities.gather(1, own)[:, 0], 0)
        probabilities = log_probabilities.exp_()
        with _full_precision(logits):
            sums = torch.einsum("bchw,bhw->c", probabilities, counted.to(logits.dtype))
        ctx.save_for_backward(probabilities, counted, own)
        return log_probability, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log: Tensor, of_sums: Tensor) -> tuple[Tensor, None]:
        """With the softmax p: d log p_own / d logit_c = [c is own] - p_c, d p_k / d logit_c = p_k ([c is k] - p_c)."""
        probabilities, counted, own = ctx.saved_tensors
        of_log = torch.where(counted, of_log, 0)
        with _full_precision(probabilities):
            mean = torch.einsum("bchw,c->bhw", probabilities, of_sums)
        gradient = (of_sums[:, None, None] - mean[:, None]) * counted[:, None] - of_log[:, None]
        gradient *= probabilities
        gradient.scatter_add_(1, own, of_log[:, None])
        return gradient, None


def _full_precision(like: Tensor) -> torch.autocast:
    """Sums over pixels are not taken in 16 bits, whatever the network computes in."""
    return torch.autocast(like.device.type, enabled=False)
