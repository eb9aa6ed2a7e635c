"""Several labels per image: loss, average precision, thresholds and report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, WorkError
from fishnet.recipes.recipe import Recipe
from fishnet.tasks import get_task
from fishnet.tasks.classification.labels import LabelScores, macro
from fishnet.tasks.classification.losses import MultiLabelLoss
from fishnet.tasks.classification.metrics import MultiLabelMetric
from fishnet.tasks.classification.multilabel_report import MultiLabelReport

CLASSES = Classes.of(["cat", "dog", "cow"])


def drawn(seed: int, images: int = 40, digits: int = 1) -> LabelScores:
    """Scores with many ties, and labels some of which are unknown."""
    random = np.random.default_rng(seed)
    labels = random.choice([-1, 0, 1], (images, 3), p=[0.2, 0.5, 0.3]).astype(np.int8)
    return LabelScores(random.random((images, 3)).round(digits).astype(np.float32), labels)


def known(scores: LabelScores, label: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    chosen = scores.labels[:, label] >= 0
    return scores.scores[chosen, label], scores.labels[chosen, label] == 1


def brute_force(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """The sum of precision times the increase of recall over all distinct thresholds, as the definition says it."""
    value, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        recall = (chosen & positive).sum() / positive.sum()
        value += (recall - before) * (chosen & positive).sum() / chosen.sum()
        before = recall
    return value


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6])
def test_average_precision(seed: int, digits: int) -> None:
    scores = drawn(seed, digits=digits)
    values = scores.average_precisions()
    expected = [brute_force(*known(scores, label)) for label in range(3)]
    assert values == pytest.approx(expected, abs=1e-12)  # float64; sums of 40 numbers


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores = drawn(seed)
    pairs = [known(scores, label) for label in range(3)]
    expected = [metrics.average_precision_score(positive, values) for values, positive in pairs]
    assert scores.average_precisions() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_best(seed: int) -> None:
    scores = drawn(seed, digits=6)
    best = scores.f1(scores.best_thresholds())
    for threshold in np.linspace(0, 1, 41):
        assert (best >= scores.f1(np.full(3, threshold)) - 1e-12).all()
    assert not np.isin(scores.best_thresholds(), scores.scores.astype(np.float64)).any(), "halfway between two scores"


def test_classes_without_a_positive_image_do_not_count() -> None:
    labels = np.array([[1, 0, -1], [0, 0, -1]], np.int8)
    scores = LabelScores(np.array([[0.9, 0.9, 0.9], [0.2, 0.2, 0.2]], np.float32), labels)
    assert scores.average_precisions()[0] == 1
    assert np.isnan(scores.average_precisions()[1:]).all()
    assert scores.best_thresholds().tolist() == pytest.approx([0.55, 0.5, 0.5], abs=1e-7)  # of float32
    assert macro(scores.f1(scores.best_thresholds())) == 1
    assert macro(np.array([np.nan])) == 0


def test_the_metric_of_batches_is_that_of_all_images() -> None:
    scores = drawn(0)
    logits = torch.logit(torch.from_numpy(scores.scores), eps=1e-6)
    metric = MultiLabelMetric(CLASSES)
    for part in (slice(0, 7), slice(7, 40)):
        metric.update(logits[part], torch.from_numpy(scores.labels[part]))
    values = metric.compute()
    assert float(values["mAP"]) == pytest.approx(macro(scores.average_precisions()), abs=1e-6)  # float32
    assert float(values["F1"]) == pytest.approx(macro(scores.f1(scores.best_thresholds())), abs=1e-6)
    assert list(metric.thresholds.values()) == pytest.approx(scores.best_thresholds().tolist(), abs=1e-5)
    metric.reset()
    metric.update(logits[:0], torch.from_numpy(scores.labels[:0]))
    assert {name: float(value) for name, value in metric.compute().items()} == {"mAP": 0, "F1": 0}


def test_the_loss_ignores_unknown_labels() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([[1, 0, -1], [0, -1, -1], [1, 1, 0], [-1, -1, -1]], dtype=torch.int8)
    (loss,) = MultiLabelLoss(0.0, None)(logits, targets).values()
    mask = targets >= 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[mask], targets[mask].float())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # float32
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[~mask].any()
    (smooth,) = MultiLabelLoss(0.2, None)(logits, targets).values()
    soft = torch.nn.functional.binary_cross_entropy_with_logits(logits[mask], 0.8 * targets[mask].float() + 0.1)
    assert smooth.item() == pytest.approx(soft.item(), rel=1e-6)
    (weighted,) = MultiLabelLoss(0.0, torch.tensor([3.0, 1, 1]))(logits, targets).values()
    assert weighted > loss


def test_a_batch_without_a_known_label_has_gradients_of_zero() -> None:
    logits = torch.randn(1, 3, requires_grad=True)
    empty = get_task("classify").for_recipe(Recipe(multi_label=True)).empty_targets()
    (loss,) = MultiLabelLoss(0.1, None)(logits, empty).values()
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("change", [{"mixup": 0.2}, {"cutmix": 1.0}, {"class_weights": "median"}])
def test_settings_for_one_label(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(change))}=.*multi_label"):
        Recipe().replace({"multi_label": True, **change})


def test_a_task_follows_the_recipe_and_the_head() -> None:
    task = get_task("classify")
    assert task.for_recipe(Recipe()).monitor == "acc@1"
    assert task.for_recipe(Recipe(multi_label=True)).monitor == "mAP"
    head = HeadConfig("classify", CLASSES, head_args={"multi_label": True}, thresholds={"class:dog": 0.25})
    assert head.label_thresholds == (0.5, 0.25, 0.5)
    report = task.for_head(head).report(CLASSES)
    assert isinstance(report, MultiLabelReport)
    assert report.thresholds.tolist() == [0.5, 0.25, 0.5]
    assert task.for_head(HeadConfig("classify", CLASSES)).monitor == "acc@1"
    read = HeadConfig.from_dict(head.to_dict(), "classify")
    assert read == head
    with pytest.raises(InputError, match="multi_label: must be true or false"):
        HeadConfig.from_dict({**head.to_dict(), "head_args": {"multi_label": 1}}, "classify")


class Images:
    """Where images come from, for a report; none can be read."""

    def source(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> None:
        raise InputError("no image")


def test_the_report(tmp_path: Path) -> None:
    report = MultiLabelReport(CLASSES, [0.5, 0.5, 0.5])
    logits = np.array([[2, -2, 0], [-1, 3, 0]], np.float32), np.array([[2, 2, 0]], np.float32)
    report.update(logits[0], np.array([[1, 0, -1], [1, 1, -1]], np.int8), [4, 5])
    report.update(logits[1], np.array([[0, 1, -1]], np.int8), [6])
    cat, dog, cow = report.rows()
    assert {key: cat[key] for key in ("images", "precision", "recall", "F1", "threshold", "unknown")} == {
        "images": 2, "precision": 50.0, "recall": 50.0, "F1": 50.0, "threshold": 0.5, "unknown": 0,
    }  # fmt: skip
    assert (dog["AP"], dog["F1"]) == (100, 100)
    assert (cow["images"], cow["AP"], cow["F1"], cow["recall"], cow["unknown"]) == (0, None, None, None, 3)
    assert report.metrics() == {"F1": 0.75}
    assert report.warnings() == [
        "1 of 3 classes have no positive image and do not count: cow", "3 unknown labels do not count",
    ]  # fmt: skip
    worst = report.worst(Images())  # type: ignore[arg-type]
    assert [(row["source"], row["missed"], row["wrong"], row["true"]) for row in worst] == [
        ("6.png", "", "cat", "dog"), ("5.png", "cat", "", "cat; dog"),
    ]  # fmt: skip
    names = {path.name for path in report.write(tmp_path, Images())}  # type: ignore[arg-type]
    assert names == {"per_class.csv"}
    assert report.lines()[0].split() == ["class", "images", "AP", "precision", "recall", "F1", "threshold"]
    with pytest.raises(WorkError, match="not finite"):
        report.update(np.full((1, 3), np.nan, np.float32), np.zeros((1, 3), np.int8), [7])
