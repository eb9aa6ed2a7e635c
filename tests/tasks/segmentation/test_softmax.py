"""The softmax at each pixel in short, and its derivatives, which are written by hand."""

import torch

from fishnet.data.segmentation.base import IGNORE
from fishnet.tasks.segmentation.softmax import pixel_scores


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 logits (2, 3, 4, 5), and labels (2, 4, 5) of which a row is ignored."""
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, 1] = IGNORE
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True), labels


def test_values() -> None:
    logits, labels = drawn()
    scores = pixel_scores(logits, labels)
    counted, log_probabilities = labels != IGNORE, logits.log_softmax(1)
    assert not scores.log_probability[~counted].any()
    wanted = log_probabilities.permute(0, 2, 3, 1)[counted]
    torch.testing.assert_close(scores.log_probability[counted], wanted[torch.arange(len(wanted)), labels[counted]])
    torch.testing.assert_close(scores.sums, wanted.exp().sum(0))


def test_derivatives() -> None:
    """Of both results alone and together, against differences."""
    logits, labels = drawn()
    assert torch.autograd.gradcheck(lambda x: tuple(pixel_scores(x, labels)), (logits,))


def test_logits_in_channels_last_have_the_same_gradient() -> None:
    logits, labels = drawn()

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        scores = pixel_scores(x, labels)
        (scores.log_probability.sum() + scores.sums.square().sum()).backward()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(gradient(logits.contiguous(memory_format=torch.channels_last)), gradient(logits))


def test_mixed_precision_changes_nothing() -> None:
    logits, labels = drawn()
    x = logits.detach().float().requires_grad_()
    scores = pixel_scores(x, labels)
    wanted = torch.autograd.grad(scores.sums.square().sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = pixel_scores(x, labels)
        assert torch.equal(mixed.sums, scores.sums)
        assert torch.equal(torch.autograd.grad(mixed.sums.square().sum(), x)[0], wanted)
