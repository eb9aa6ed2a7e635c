"""Several heads in one training: each learns from the images that are annotated for it, and from no others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.loading import Batch
from fishnet.errors import InputError
from fishnet.recipes.joint_recipe import load_joint_recipe
from fishnet.tasks.classification.heads import LinearClassifier
from fishnet.tasks.joint import Joint
from fishnet.tasks.joint_parts import JointCriterion, JointMetrics, JointOutputs, group_counts
from fishnet.tasks.model import Model, ModelSpec
from fishnet.training.batches import Prepare, loader, preprocess_of
from fishnet.training.module import total
from tests.joint_makers import joint_data
from tests.tasks.test_model import flat

SMALL = {
    "backbone": "fishnet_nano", "size": 64, "max_size": 96, "workers": 0, "batch_size": 4, "fpn_channels": 16,
    "box_width": 16, "decoder_channels": 16, "proposals": 20, "roi_samples": 16, "device": "cpu",
}  # fmt: skip
HEADS = ("classify", "detect", "segment")


@dataclass
class Prepared:
    """A joint training up to its first step, with a batch that is annotated for all heads."""

    task: Joint
    model: Model
    configs: Mapping[str, HeadConfig]
    splits: dict[str, Any]
    images: Tensor
    targets: list[dict[str, Any]]

    def criterion(self) -> JointCriterion:
        return self.task.criterion(self.task.recipe.shared, self.splits["train"])

    def losses(self, targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        torch.manual_seed(0)  # detectors sample proposals
        return dict(self.criterion()(self.task.run(self.model, self.images, targets)))

    def without(self, *names: str, rows: tuple[int, ...] = (0, 1, 2, 3)) -> list[dict[str, Any]]:
        """The targets without those of some heads in some images."""
        return [
            {name: value for name, value in target.items() if i not in rows or name not in names}
            for i, target in enumerate(self.targets)
        ]


def prepared(data: dict[str, str], **settings: Any) -> Prepared:
    torch.manual_seed(0)
    settings = {**SMALL, **settings}
    if "segment" not in data:
        settings.pop("decoder_channels")
    if "detect" not in data:
        settings = {k: v for k, v in settings.items() if k not in ("fpn_channels", "box_width", "proposals",
                                                                    "roi_samples")}  # fmt: skip
    task = Joint(load_joint_recipe(data=data, overrides=settings))
    recipe = task.recipe.shared
    splits = task.open_data("", 3, recipe)
    recipe = task.complete_recipe(recipe, splits, lambda line: None)
    preprocess = preprocess_of(task, recipe, splits["train"])
    configs = task.head_configs(recipe, splits["train"], preprocess, lambda line: None)
    model = Model.build(ModelSpec(recipe.backbone, configs))
    batch = next(iter(loader(splits["train"], task.train_transform(recipe, preprocess), recipe, preprocess,
                             shuffle=True)))  # fmt: skip
    prepare = Prepare(task, recipe, preprocess, splits["train"].classes)
    return Prepared(task, model, configs, splits, *prepare(batch.images, batch.targets))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return joint_data(tmp_path_factory.mktemp("data") / "all", 8)


@pytest.fixture
def three(data: dict[str, str]) -> Prepared:
    return prepared(data)


def own_parameters(three: Prepared, name: str) -> dict[str, Tensor]:
    """The parameters of one head; a classifier's are the trunk's score layer."""
    prefixes = (f"heads.{name}.", *(f"{layer}." for layer in three.model.class_rows()[name]))
    return {key: value for key, value in three.model.named_parameters() if key.startswith(prefixes)}


# what is annotated, and what is not


@pytest.mark.parametrize("missing", [*HEADS, "all"])
def test_a_head_without_a_target_gets_gradients_of_zero(missing: str, three: Prepared) -> None:
    """Not none at all: several processes add up the gradients of all parameters."""
    names = HEADS if missing == "all" else (missing,)
    losses = three.losses(three.without(*names))
    assert {name.partition("/")[0] for name in losses} == {*HEADS, "idle"} - set(names)
    assert losses["idle"].item() == 0
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in three.model.parameters() if parameter.requires_grad)
    for name in names:
        own = own_parameters(three, name)
        assert own, name
        assert not any(value.grad.any() for value in own.values() if value.grad is not None), name
    for name in set(HEADS) - set(names):
        assert any(value.grad.any() for value in own_parameters(three, name).values() if value.grad is not None), name
    stem = three.model.trunk.backbone.get_parameter(next(k for k, _ in three.model.trunk.backbone.named_parameters()))
    assert stem.grad is not None
    assert stem.grad.any() == (missing != "all")


def test_nothing_is_added_where_all_heads_have_targets(three: Prepared) -> None:
    assert "idle" not in three.losses(three.targets)


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_a_head_decodes_its_annotated_images_alone(name: str, three: Prepared) -> None:
    model = three.model.eval()
    outputs = three.task.run(model, three.images, three.without(name, rows=(0, 2)))
    assert isinstance(outputs, JointOutputs)
    assert list(outputs.outputs) == list(HEADS)
    assert outputs.idle is None
    features = model.features(three.images)
    subset = features.take([1, 3])
    kept = [three.targets[i][name] for i in (1, 3)]
    stacked = torch.tensor(kept) if name == "classify" else kept
    torch.manual_seed(0)
    expected = model.heads[name](subset, stacked)
    torch.manual_seed(0)
    again = three.task.run(model, three.images, [t if i in (1, 3) else {} for i, t in enumerate(three.targets)])
    for found, wanted in zip(flat(again.outputs[name]), flat(expected), strict=True):
        assert torch.equal(found, wanted)
    alone = model(three.images[[1, 3]])[name]
    if name != "detect":  # detections near a threshold may come and go with the last bit
        outs = outputs.outputs[name]
        for found, wanted in zip(flat(outs), flat(alone), strict=True):
            assert found.shape == wanted.shape
            assert torch.allclose(found, wanted, atol=1e-4), "convolutions of another batch size may round otherwise"
    assert len(outputs.targets[name]) == 2


@torch.no_grad()
def test_features_of_some_images(three: Prepared) -> None:
    features = three.model.features(three.images)
    assert features.take(range(4)) is features, "nothing is copied where all images are annotated"
    some = features.take([2, 0])
    assert features.last is not None
    assert some.last is not None
    assert torch.equal(some.last, features.last[[2, 0]])
    for name, value in features.maps.items():
        assert torch.equal(some.maps[name], value[[2, 0]])


@pytest.mark.parametrize("name", HEADS)
def test_unannotated_images_change_no_loss_of_a_head(name: str, three: Prepared) -> None:
    """Compared in evaluation mode: in training the trunk's batch norms see all images of the batch."""
    three.model.eval()
    others = tuple(other for other in HEADS if other != name)
    both = three.losses(three.without(name, rows=(0,)))
    single = three.losses([{} if i == 0 else {name: t[name]} for i, t in enumerate(three.without(*others))])
    own = {key: value for key, value in both.items() if key.startswith(f"{name}/")}
    assert own
    for key, value in own.items():
        if name == "detect":
            assert torch.isfinite(value)
        else:
            assert torch.equal(value, single[key]), key


def test_a_target_of_too_few_images_for_a_head_is_left_out_and_counted(data: dict[str, str]) -> None:
    three = prepared({"classify": data["classify"], "segment": data["segment"]})
    three.model.train()
    type(three.model.heads["segment"]).min_batch_size = property(lambda self: 2)  # type: ignore[assignment]
    try:
        outputs = three.task.run(three.model, three.images, three.without("segment", rows=(1, 2, 3)))
    finally:
        del type(three.model.heads["segment"]).min_batch_size
    assert set(outputs.outputs) == {"classify"}
    assert outputs.idle is not None
    (line,) = [line for line in three.task.warnings(three.splits["val"]) if line.startswith("segment: ")]
    assert "1 targets were not trained on" in line
    assert "raise batch_size" in line


def test_targets_by_head_move_to_another_device(three: Prepared) -> None:
    moved = move_data_to_device(Batch(three.images, three.targets, [0, 1, 2, 3], []), torch.device("meta"))
    assert moved.images.is_meta
    for target in moved.targets:
        assert set(target) == set(HEADS)
        assert target["detect"].boxes.is_meta
        assert target["segment"].labels.is_meta


def deep_table(root: Path, low: int, high: int) -> str:
    """A table of 16-bit images with values from ``low`` to ``high``."""
    root.mkdir()
    pixels = np.linspace(low, high, 40 * 40).reshape(40, 40).astype(np.uint16)
    rows = ["image,label"]
    for i in range(6):
        Image.fromarray(pixels).save(root / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return str(root / "labels.csv")


def test_all_heads_read_deep_images_in_one_range(tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    first, second = deep_table(tmp_path / "a", 100, 1000), deep_table(tmp_path / "b", 500, 9000)
    file.write_text(f"sixteen_bit: stretch\nchannels: 1\nheads:\n  a: {{task: classify, data: {first}}}\n"
                    f"  b: {{task: classify, data: {second}}}\n")  # fmt: skip
    task = Joint(load_joint_recipe(str(file)))
    splits = task.open_data("", 1, task.recipe.shared)
    readings = {dataset.reading for split in splits.values() for dataset in split.datasets.values()}
    assert len(readings) == 1
    (reading,) = readings
    assert reading.sixteen_bit == "stretch"
    assert reading.value_range is not None
    low, high = reading.value_range
    assert 100 <= low < 500, "of the darker images"
    assert 1000 < high <= 9000, "of the brighter ones"


# losses


@pytest.mark.parametrize("name", HEADS)
def test_loss_weights_multiply(name: str, three: Prepared) -> None:
    outputs = three.task.run(three.model, three.images, three.targets)
    criterion = three.criterion()
    before = criterion(outputs)
    criterion.weights[name] = 0.25
    after = criterion(outputs)
    assert set(before) == set(after)
    for key, value in before.items():
        assert torch.equal(after[key], value * (0.25 if key.startswith(f"{name}/") else 1)), key


def test_weights_of_the_recipe_reach_the_criterion(data: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    file.write_text(f"heads:\n  classify: {{data: {data['classify']}, loss_weight: 0.3}}\n"
                    f"  segment: {{data: {data['segment']}}}\n")  # fmt: skip
    task = Joint(load_joint_recipe(str(file), overrides={"sixteen_bit": "shift"}))
    splits = task.open_data("", 3, task.recipe.shared)
    assert task.criterion(task.recipe.shared, splits["train"]).weights == {"classify": 0.3, "segment": 1.0}


def test_uncertainty_weighting_is_the_papers_formula(data: dict[str, str]) -> None:
    """Loss times exp(-s), plus s: the gradient for s is 1 - loss x exp(-s)."""
    three = prepared(data, loss_weighting="uncertainty")
    outputs = three.task.run(three.model, three.images, three.targets)
    criterion = three.criterion()
    assert set(criterion.log_variances) == set(HEADS)
    plain = JointCriterion(dict(criterion.criteria.items()), criterion.weights)(outputs)
    at_zero = criterion(outputs)
    assert total(at_zero).item() == pytest.approx(total(plain).item(), rel=1e-6), "it begins as fixed weights"
    values = {"classify": 0.5, "detect": -1.0, "segment": 2.0}
    with torch.no_grad():
        for name, value in values.items():
            criterion.log_variances[name].fill_(value)
    total(criterion(outputs)).backward()
    for name, value in values.items():
        loss = sum(part.item() for key, part in plain.items() if key.startswith(f"{name}/"))
        gradient = criterion.log_variances[name].grad
        assert gradient is not None
        assert gradient.item() == pytest.approx(1 - loss * torch.tensor(-value).exp().item(), rel=1e-4)


def test_the_variance_of_a_head_without_targets_gets_a_gradient_of_zero(data: dict[str, str]) -> None:
    three = prepared(data, loss_weighting="uncertainty")
    criterion = three.criterion()
    total(criterion(three.task.run(three.model, three.images, three.without("segment")))).backward()
    gradients = {name: value.grad for name, value in criterion.log_variances.items()}
    assert all(gradient is not None for gradient in gradients.values())
    assert gradients["segment"] == 0
    assert gradients["detect"] != 0


# heads


def test_one_classifier_is_the_backbones_score_layer(three: Prepared) -> None:
    assert {name: (config.task, config.head) for name, config in three.configs.items()} == {
        "classify": ("classify", "default"), "detect": ("detect", "faster-rcnn"), "segment": ("segment", "body"),
    }  # fmt: skip


def two_classifiers(data: dict[str, str], tmp_path: Path, *more: str, age: str = "") -> Joint:
    labels = Path(data["classify"])
    other = tmp_path / "age.csv"
    images = labels.parent / "images"
    other.write_text("image,label\n" + "".join(
        f"{path},{('old', 'young', 'infant')[i % 3]}\n" for i, path in enumerate(sorted(images.iterdir()))
    ))  # fmt: skip
    file = tmp_path / "tasks.yaml"
    file.write_text("\n".join(["sixteen_bit: shift", *more, "heads:",
                               f"  species: {{task: classify, data: {labels}}}",
                               f"  age: {{task: classify, data: {other}{age}}}"]))  # fmt: skip
    return Joint(load_joint_recipe(str(file), overrides={k: SMALL[k] for k in ("backbone", "size", "workers")}))


@pytest.mark.parametrize(("age", "heads"), [("", ("linear", "linear")), (", head: default", ("linear", "linear")),
                                            (", head: linear", ("linear", "linear"))])  # fmt: skip
def test_several_classifiers_have_layers_of_their_own(
    age: str, heads: tuple[str, str], data: dict[str, str], tmp_path: Path
) -> None:
    task = two_classifiers(data, tmp_path, age=age)
    recipe = task.recipe.shared
    splits = task.open_data("", 3, recipe)
    assert len(splits["train"]) + len(splits["val"]) == 8, "one sample for both heads"
    configs = task.head_configs(recipe, splits["train"], preprocess_of(task, recipe, splits["train"]), print)
    assert tuple(config.head for config in configs.values()) == heads
    assert [len(config.classes) for config in configs.values()] == [2, 3]
    model = Model.build(ModelSpec("fishnet_nano", configs)).eval()
    outputs = model(torch.zeros(2, 3, 64, 64))
    assert {name: value.shape for name, value in outputs.items()} == {"species": (2, 2), "age": (2, 3)}


# metrics


def test_metrics_have_their_heads_names_and_a_mean(three: Prepared) -> None:
    model = three.model.eval()
    metrics = three.task.metrics(three.splits["train"].classes)
    assert isinstance(metrics, JointMetrics)
    transform = three.task.eval_transform(preprocess_of(three.task, three.task.recipe.shared, three.splits["train"]))
    recipe = three.task.recipe.shared
    preprocess = preprocess_of(three.task, recipe, three.splits["train"])
    with torch.no_grad():
        for batch in loader(three.splits["val"], transform, recipe, preprocess, shuffle=False):
            images = Prepare(three.task, recipe, preprocess, three.splits["train"].classes).normalize(batch.images)
            metrics.update(three.task.run(model, images, batch.targets), batch.targets)
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert set(values) == {
        "classify/acc@1", "detect/AP", "detect/AP50", "detect/AP75", "segment/mIoU", "segment/mAcc", "segment/aAcc",
        "mean",
    }  # fmt: skip
    own = [values["classify/acc@1"], values["detect/AP"], values["segment/mIoU"]]
    assert values["mean"] == pytest.approx(sum(own) / 3, abs=1e-6)
    metrics.reset()
    assert metrics.metrics["classify"]["acc@1"].update_count == 0


@pytest.mark.parametrize(
    ("monitor", "words"),
    [("detect/mIoU", "detect has no metric 'mIoU'"), ("classify/acc@5", "no metric 'acc@5'.*acc@1"),
     ("segment/iou", "segment has no metric 'iou'")],
)  # fmt: skip
def test_a_monitor_that_no_head_measures(monitor: str, words: str, data: dict[str, str]) -> None:
    task = Joint(load_joint_recipe(data=data, overrides={"monitor": monitor, "sixteen_bit": "shift"}))
    splits = task.open_data("", 3, task.recipe.shared)
    with pytest.raises(InputError, match=words):
        task.metrics(splits["train"].classes)


def test_samples_are_counted_by_the_heads_that_annotate_them() -> None:
    rows = [{"a": 0, "b": 0}, {"b": 1}, {"b": 2}, {"a": 1}]
    assert group_counts(rows) == {"b": 2, "a+b": 1, "a": 1}


# settings that exclude one another


def refused(data: dict[str, str], words: str, **settings: Any) -> None:
    with pytest.raises(InputError, match=words):
        Joint(load_joint_recipe(data=data, overrides=settings))


def test_settings_that_joint_trainings_do_not_support() -> None:
    data = {"classify": "a", "segment": "b"}
    refused(data, "strategy=sharded: is not supported", strategy="sharded")
    refused(data, "classify: drop_rate: is not supported", drop_rate=0.1)
    refused({"classify": "a"}, "classify: drop_rate: is not supported", drop_rate=0.1)


@pytest.mark.parametrize("name", ["items", "type", "train", "forward", "training", "copy"])
def test_names_that_torch_needs_itself(name: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    file.write_text(f"heads: {{{name}: {{task: classify, data: a}}}}")
    with pytest.raises(InputError, match=f"heads: '{name}' is a name that torch's modules use"):
        Joint(load_joint_recipe(str(file)))
    config = HeadConfig("classify", Classes.of(["a", "b"]))
    with pytest.raises(InputError, match=f"heads: '{name}' is a name that torch's modules use"):
        Model.build(ModelSpec("fishnet_nano", {name: config}))


# the classifier with layers of its own


def linear(classes: int = 3, trunk_seed: int = 0, backbone: str = "fishnet_nano") -> Model:
    torch.manual_seed(trunk_seed)
    names = Classes.of([f"c{i}" for i in range(classes)])
    return Model.build(ModelSpec(backbone, {"age": HeadConfig("classify", names, "linear")}))


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["fishnet_nano", "resnet18"])
def test_linear_scores_its_embedding(backbone: str) -> None:
    model = linear(backbone=backbone).eval()
    head = model.heads["age"]
    assert isinstance(head, LinearClassifier)
    features = model.features(torch.randn(2, 3, 64, 96))
    embedded = head.embed(features)
    assert embedded.shape == (2, model.trunk.levels[32].channels)
    assert (embedded >= 0).all()
    assert torch.equal(head(features), head.fc(embedded))
    assert torch.equal(head(features, torch.tensor([0, 1])), head(features)), "targets change nothing"
    assert set(model.class_rows()["age"]) == {"heads.age.fc"}
    assert not model.trunk.wants.scores, "the backbone's score layer is not needed"


@pytest.mark.parametrize("size", [32, 64])
def test_linear_trains_on_a_single_image(size: int) -> None:
    """At 32 px the map of a single image is one px, which has no statistics of its own."""
    model = linear().train()
    model.trunk.eval()
    head = model.heads["age"]
    before = head.norm.running_mean.clone()
    head(model.features(torch.randn(1, 3, size, size))).sum().backward()
    assert head.fc.weight.grad.any()
    assert torch.equal(before, head.norm.running_mean) == (size == 32)
