"""The losses of segmentation against torch's and segmentation-models-pytorch's own, and their sum."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss
from torch import Tensor
from torch.nn import functional as F

from fishnet.data.segmentation.base import IGNORE, SegmentationTarget
from fishnet.errors import InputError
from fishnet.tasks.segmentation.losses import (
    LOSSES,
    NEAR,
    SegmentationLoss,
    dice_loss,
    near_boundary,
    parse_losses,
    stack_labels,
)
from fishnet.tasks.segmentation.softmax import PixelScores

CLASSES, SIZE = 4, (12, 17)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 7.0])
THEIRS: dict[str, Any] = {"dice": DiceLoss, "focal": FocalLoss, "lovasz": LovaszLoss}


def drawn(seed: int = 0, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    """Logits (2, classes, *size) and labels (2, *size), some of them ignored."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, *SIZE, generator=random)
    labels = torch.randint(0, CLASSES, (2, *SIZE), generator=random)
    labels[torch.rand(labels.shape, generator=random) < ignored] = IGNORE
    return logits.requires_grad_(), labels


def targets(labels: Tensor) -> list[SegmentationTarget]:
    return [SegmentationTarget(one.to(torch.uint8)) for one in labels]


def losses(
    criterion: SegmentationLoss, logits: Tensor, labels: Tensor, auxiliary: Tensor | None = None
) -> dict[str, Tensor]:
    outputs = {"logits": logits} if auxiliary is None else {"logits": logits, "auxiliary": auxiliary}
    found: dict[str, Tensor] = criterion(outputs, targets(labels))
    return found


# --- each loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_cross_entropy_is_torchs(weights: Tensor | None, smoothing: float, ignored: float) -> None:
    logits, labels = drawn(ignored=ignored)
    criterion = SegmentationLoss({"cross-entropy": 1.0}, smoothing=smoothing, class_weights=weights)
    found = losses(criterion, logits, labels)
    wanted = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, label_smoothing=smoothing)
    assert list(found) == ["cross-entropy"]
    torch.testing.assert_close(found["cross-entropy"], wanted)
    gradient = torch.autograd.grad(found["cross-entropy"], logits, retain_graph=True)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, logits)[0])
    assert not gradient.permute(0, 2, 3, 1)[labels == IGNORE].any()


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_the_other_losses_are_smps(name: str, ignored: float) -> None:
    logits, labels = drawn(ignored=ignored)
    found = losses(SegmentationLoss({name: 1.0}), logits, labels)
    wanted = THEIRS[name]("multiclass", ignore_index=IGNORE)(logits, labels)
    assert list(found) == [name]
    torch.testing.assert_close(found[name], wanted)
    gradient = torch.autograd.grad(found[name], logits)[0]
    assert gradient.isfinite().all()
    assert not gradient.permute(0, 2, 3, 1)[labels == IGNORE].any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_right_answer_costs_next_to_nothing(name: str) -> None:
    _, labels = drawn()
    sure = 40 * (F.one_hot(labels.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float() - 0.5)
    right, wrong = (losses(SegmentationLoss({name: 1.0}), logits, labels)[name] for logits in (sure, sure.roll(1, 1)))
    assert right < 1e-6
    assert wrong > 0.5


def test_dice_by_hand() -> None:
    """Two px, two classes: 2 |p t| / (|p| + |t|) of each class, over the whole batch."""
    logits = torch.tensor([[[[1.0, -2.0]], [[0.0, 0.0]]]])
    p = logits.softmax(1)[0, :, 0]
    wanted = 1 - torch.stack([2 * p[0, 0] / (p[0].sum() + 1), 2 * p[1, 1] / (p[1].sum() + 1)]).mean()
    found = losses(SegmentationLoss({"dice": 1.0}), logits, torch.tensor([[[0, 1]]]))["dice"]
    torch.testing.assert_close(found, wanted)


def test_dice_of_many_pixels() -> None:
    """2**25 pixels that are all right: one float32 number to which ones are added stops at 2**24."""
    labels = torch.zeros(1, 8192, 4096, dtype=torch.int64)
    scores = PixelScores(torch.zeros(labels.shape), torch.tensor([2.0**25, 0.0]))
    assert dice_loss(scores, labels) == 0


def test_sums_are_weighted() -> None:
    logits, labels = drawn()
    auxiliary = drawn(1)[0]
    weights = {"cross-entropy": 1.5, "dice": 0.5, "focal": 20.0, "lovasz": 0.25}
    alone = {name: losses(SegmentationLoss({name: 1.0}), logits, labels)[name] for name in weights}
    found = losses(SegmentationLoss(weights, boundary=0.3, auxiliary=0.4), logits, labels, auxiliary)
    assert list(found) == [*weights, "boundary", "auxiliary"]
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight * alone[name])
    near = torch.where(near_boundary(labels), labels, IGNORE)
    assert (near != IGNORE).any()
    torch.testing.assert_close(found["boundary"], 0.3 * F.cross_entropy(logits, near, ignore_index=IGNORE))
    torch.testing.assert_close(found["auxiliary"], 0.4 * F.cross_entropy(auxiliary, labels, ignore_index=IGNORE))


def test_the_boundary_term_has_the_classes_weights() -> None:
    logits, labels = drawn()
    labels = labels.clone()
    labels[:, :, :8] = 0  # a wide ground, whose inner px are not near a boundary
    criterion = SegmentationLoss(
        {"cross-entropy": 1.0}, class_weights=WEIGHTS, smoothing=0.1, boundary=1.0, auxiliary=1.0
    )
    found = losses(criterion, logits, labels, logits)
    near = torch.where(near_boundary(labels), labels, IGNORE)
    assert ((near == IGNORE) & (labels != IGNORE)).any()
    options: dict[str, Any] = {"weight": WEIGHTS, "ignore_index": IGNORE, "label_smoothing": 0.1}
    torch.testing.assert_close(found["boundary"], F.cross_entropy(logits, near, **options))
    torch.testing.assert_close(found["auxiliary"], found["cross-entropy"])


def test_one_class_has_no_boundary() -> None:
    logits, labels = drawn()
    labels = torch.where(labels == IGNORE, labels, 2)
    found = losses(SegmentationLoss({"cross-entropy": 1.0}, boundary=1.0), logits, labels)
    assert found["boundary"] == 0
    torch.stack(list(found.values())).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_no_auxiliary_scores_no_auxiliary_loss() -> None:
    logits, labels = drawn()
    assert list(losses(SegmentationLoss({"dice": 1.0}, auxiliary=1.0), logits, labels)) == ["dice"]
    assert list(losses(SegmentationLoss({"dice": 1.0}), logits, labels, logits)) == ["dice"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ignored", ["all", "one image"])
def test_nothing_to_learn_from(name: str, ignored: str) -> None:
    logits, labels = drawn()
    auxiliary = drawn(1)[0]
    labels[0 if ignored == "one image" else slice(None)] = IGNORE
    criterion = SegmentationLoss({name: 1.0}, class_weights=WEIGHTS, boundary=1.0, auxiliary=1.0)
    total = torch.stack(list(losses(criterion, logits, labels, auxiliary).values())).sum()
    total.backward()
    for scores in (logits, auxiliary):
        assert scores.grad is not None, "as many processes expect"
        assert scores.grad.isfinite().all()
        assert not scores.grad[0].any()
        assert scores.grad[1].any() == (ignored == "one image")
    assert (total == 0) == (ignored == "all")


@pytest.mark.parametrize("name", LOSSES)
def test_classes_without_a_px_and_without_weight(name: str) -> None:
    """Weights that are all 0, and classes that do not occur, do not give NaN."""
    logits, labels = drawn()
    labels = torch.where(labels == IGNORE, labels, 1)
    criterion = SegmentationLoss({name: 1.0}, class_weights=torch.tensor([1.0, 0.0, 1.0, 1.0]), boundary=1.0)
    found = torch.stack(list(losses(criterion, logits, labels).values())).sum()
    found.backward()
    assert found.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (found == 0) == (name == "cross-entropy")


def test_logits_of_16_bits_are_summed_in_32() -> None:
    logits, labels = drawn()
    found = losses(SegmentationLoss(dict.fromkeys(LOSSES, 1.0)), logits.bfloat16(), labels)
    wanted = losses(SegmentationLoss(dict.fromkeys(LOSSES, 1.0)), logits.bfloat16().float(), labels)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, wanted[name])


def test_class_weights_move_with_the_model_and_are_no_part_of_it() -> None:
    criterion = SegmentationLoss({"cross-entropy": 1.0}, class_weights=WEIGHTS)
    assert criterion.to("meta").class_weights.device.type == "meta"  # type: ignore[union-attr]
    assert not criterion.state_dict()


# --- labels of images of unequal size -------------------------------------------------------------------------------


def test_images_smaller_than_their_batch() -> None:
    """Px beyond an image are ignored: the loss is that of the images' own px."""
    logits, _ = drawn()
    sizes = [(12, 10), (7, 17)]
    random = torch.Generator().manual_seed(3)
    own = [torch.randint(0, CLASSES, size, generator=random, dtype=torch.uint8) for size in sizes]
    labels = stack_labels([SegmentationTarget(one) for one in own], SIZE, "cpu")
    assert (labels.shape, labels.dtype) == ((2, *SIZE), torch.int64)
    for page, one in zip(labels, own, strict=True):
        assert torch.equal(page[: one.shape[0], : one.shape[1]], one.long())
        assert (page == IGNORE).sum() == page.numel() - one.numel()
    found = SegmentationLoss({"cross-entropy": 1.0})({"logits": logits}, [SegmentationTarget(one) for one in own])
    there = [logits[i, :, :h, :w].flatten(1).T for i, (h, w) in enumerate(sizes)]
    wanted = F.cross_entropy(torch.cat(there), torch.cat([one.flatten() for one in own]).long())
    torch.testing.assert_close(found["cross-entropy"], wanted)


def test_labels_beyond_the_scores_are_cut() -> None:
    labels = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    assert stack_labels([SegmentationTarget(labels)], (1, 4), "cpu").tolist() == [[[0, 1, 2, IGNORE]]]


# --- boundaries -------------------------------------------------------------------------------------------------------


def by_brute_force(labels: NDArray[np.int64], near: int) -> NDArray[np.bool_]:
    found = np.zeros(labels.shape, bool)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            around = labels[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1]
            found[y, x] = labels[y, x] != IGNORE and bool(set(around.ravel().tolist()) - {labels[y, x], IGNORE})
    return found


@pytest.mark.parametrize("near", [1, NEAR, 3])
@pytest.mark.parametrize("seed", range(4))
def test_near_boundary(seed: int, near: int) -> None:
    random = np.random.default_rng(seed)
    blocks = np.kron(random.choice([0, 3, 254, IGNORE], (2, 4, 3)), np.ones((1, 9, 8))).astype(np.int64)
    blocks[random.random(blocks.shape) < 0.01] = 1
    found = near_boundary(torch.from_numpy(blocks), near).numpy()
    np.testing.assert_array_equal(found, np.stack([by_brute_force(one, near) for one in blocks]))
    assert 0 < found.mean() < 1


def test_two_px_on_either_side_of_an_edge() -> None:
    labels = torch.zeros(1, 1, 12, dtype=torch.int64)
    labels[..., 6:] = 1
    assert near_boundary(labels)[0, 0].tolist() == [4 <= x < 8 for x in range(12)]
    labels[..., 6:8] = IGNORE  # what is not known is no other class
    assert not near_boundary(labels)[0, 0, :5].any()


# --- the recipe's sum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cross-entropy", {"cross-entropy": 1.0}),
        ("cross-entropy+dice", {"cross-entropy": 1.0, "dice": 1.0}),
        (" cross-entropy + 0.5*dice ", {"cross-entropy": 1.0, "dice": 0.5}),
        ("2 * focal+.25*lovasz", {"focal": 2.0, "lovasz": 0.25}),
        ("1*lovasz+1.5*cross-entropy+3*focal+dice", {"lovasz": 1, "cross-entropy": 1.5, "focal": 3, "dice": 1}),
    ],
)
def test_parse_losses(text: str, wanted: dict[str, float]) -> None:
    assert parse_losses(text) == wanted
    assert list(parse_losses(text)) == list(wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a sum such as cross-entropy"),
        ("dice+", "must be a sum"),
        ("-1*dice", "must be a sum"),
        ("dice*2", "must be a sum"),
        ("1e3*dice", "must be a sum"),
        ("dice,focal", "must be a sum"),
        ("dise", "unknown loss 'dise': did you mean dice"),
        ("cross-entropy+jaccard", "unknown loss 'jaccard': choose from cross-entropy, dice, focal, lovasz"),
        ("dice+dice", "dice comes twice"),
        ("0*dice", "weight of 0"),
    ],
)
def test_wrong_sums(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_losses(text)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"loss={text!r}")
    assert "\n" not in str(caught.value)


def test_pixels_of_classes_that_weigh_nothing() -> None:
    """A batch of only ignored px, which validation may have, has a loss of 0, also with label smoothing."""
    loss = SegmentationLoss(
        {"cross-entropy": 1.0}, smoothing=0.1, class_weights=torch.tensor([1.0, 1.0, 0.0]), boundary=1.0, auxiliary=0.4
    )
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    found = loss(
        {"logits": logits, "auxiliary": logits}, [SegmentationTarget(torch.full((8, 8), 2, dtype=torch.uint8))]
    )
    assert {name: float(value.detach()) for name, value in found.items()} == {
        "cross-entropy": 0.0, "boundary": 0.0, "auxiliary": 0.0,
    }  # fmt: skip
    torch.stack(list(found.values())).sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()
