"""``--weights``: a bundle of the same task also gives its head; rows of classes are matched by the classes' names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fishnet.bundle.bundle import Bundle, HeadConfig, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.tasks import get_task
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import save_weights, start_from
from fishnet.tasks.transfer import by_module

OLD = Classes.of(["bolt", "nut", "screw"])
ADDED = Classes.of(["bolt", "gear", "nut", "screw"])
TURNED = Classes.of(["screw", "bolt", "nut"])
SMALL: dict[str, dict[str, Any]] = {
    "classify": {},
    "detect": {"width": 64, "box_width": 16},
    "instances": {"width": 16, "box_width": 16, "mask_width": 16},
    "segment": {"width": 32, "auxiliary": True},
}
HEADS = [(name, head) for name in SMALL for head in get_task(name).heads]


def made(task: str, classes: Classes, head: str = "default", seed: int = 0, **args: Any) -> tuple[ModelSpec, Model]:
    torch.manual_seed(seed)
    head = get_task(task).resolve_head(head)
    spec = ModelSpec.single(task, "fishnet_nano", classes, head=head, head_args={**SMALL[task], **args})
    model = Model.build(spec)
    with torch.no_grad():
        for value in model.state_dict().values():  # no two rows alike, biases and counters included
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return spec, model.eval()


def bundle_of(folder: Path, spec: ModelSpec, model: Model) -> str:
    bundle = Bundle(spec.backbone, dict(spec.heads), Preprocess((64, 64)))
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return str(folder)


def per_class(model: Model, classes: Classes) -> dict[str, dict[str, Tensor]]:
    """The rows of each class in each layer that has some, by hand for each kind of head; "" is the background."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in model.state_dict().items():
        names = ["", *classes.names]
        if "cls_score." in key or "mask_fcn_logits." in key or ".semantic.predictor." in key:
            found[key] = {name: value[i] for i, name in enumerate(names)}
        elif "box_predictor.bbox_pred." in key and len(value) == 4 * len(names):
            found[key] = {name: value[4 * i : 4 * i + 4] for i, name in enumerate(names)}
        elif "cls_logits." in key and "rpn" not in key:
            count = len(classes)
            found[key] = {name: value[i::count] for i, name in enumerate(classes.names)}
        elif key.startswith(
            ("heads.segment.scores.", "heads.segment.auxiliary.4.", "trunk.backbone.score.fc.", "heads.classify.fc.")
        ):
            found[key] = {name: value[i] for i, name in enumerate(classes.names)}
    return found


@pytest.mark.parametrize(("task", "head"), HEADS)
def test_the_same_classes_give_the_same_model(task: str, head: str, tmp_path: Path) -> None:
    spec, model = made(task, OLD, head)
    source = bundle_of(tmp_path / "b", spec, model)
    _, other = made(task, OLD, head, seed=1)
    notes = start_from(other, source, spec)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items())
    count = sum(not key.startswith("trunk.") for key in model.state_dict())
    assert [note for note in notes if "head: " in note] == (
        [f"head: {count} of {count} tensors loaded"] if count else []
    )
    assert not [note for note in notes if "left out" in note or "new" in note], notes


@pytest.mark.parametrize("classes", [ADDED, TURNED, Classes.of(["gear", "screw"])], ids=["added", "turned", "fewer"])
@pytest.mark.parametrize(("task", "head"), HEADS)
def test_classes_keep_their_rows_by_name(task: str, head: str, classes: Classes, tmp_path: Path) -> None:
    spec, model = made(task, OLD, head)
    source = bundle_of(tmp_path / "b", spec, model)
    ours, other = made(task, classes, head, seed=1)
    fresh = {key: value.clone() for key, value in other.state_dict().items()}
    notes = start_from(other, source, ours)
    before, after, new = (
        per_class(model, OLD),
        per_class(other, classes),
        per_class(made(task, classes, head, 1)[1], classes),
    )
    assert before
    for key, rows in after.items():
        for name, row in rows.items():
            wanted = before[key].get(name)
            assert torch.equal(row, new[key][name] if wanted is None else wanted), (key, name)
    for key, value in other.state_dict().items():
        if key not in after:
            assert torch.equal(value, model.state_dict()[key]), key
            assert torch.equal(fresh[key], value) == torch.equal(fresh[key], model.state_dict()[key])
    kept = [name for name in classes.names if name in OLD.names]
    said = next(note for note in notes if note.startswith("classes by name: "))
    assert said.startswith(f"classes by name: {len(kept)} of {len(classes)} keep their weights")
    assert ("1 new here (gear)" in said) == ("gear" in classes.names)
    assert ("2 left out (bolt, nut)" in said) == (len(classes) == 2)


def test_what_does_not_fit_is_counted_by_module(tmp_path: Path) -> None:
    spec, model = made("detect", OLD)
    source = bundle_of(tmp_path / "b", spec, model)
    ours, other = made("detect", OLD, seed=1, box_width=24)
    notes = start_from(other, source, ours)
    # weights and biases of fc6 and fc7 (with a norm: biases too), and the weights of scores and boxes
    assert any(
        "left out, because shapes differ (roi_heads.box_head 4, roi_heads.box_predictor 2)" in n for n in notes
    ), notes
    assert torch.equal(
        other.heads["detect"].fpn.inner_blocks[0][0].weight, model.heads["detect"].fpn.inner_blocks[0][0].weight
    )


def test_parts_that_one_side_lacks(tmp_path: Path) -> None:
    spec, model = made("segment", OLD)
    source = bundle_of(tmp_path / "b", spec, model)
    ours, other = made("segment", OLD, seed=1, auxiliary=False)
    auxiliary = sum(".auxiliary" in key for key in model.state_dict())
    assert f"head: {auxiliary} tensors left out, not in this head (auxiliary {auxiliary})" in start_from(
        other, source, ours
    )
    source = bundle_of(tmp_path / "c", ours, other)
    assert f"head: {auxiliary} tensors new, not in the bundle (auxiliary {auxiliary})" in start_from(
        model, source, spec
    )


@pytest.mark.parametrize("backbone", ["fishnet_nano", "convnext_atto", "resnet18", "swin_tiny_patch4_window7_224"])
def test_a_trunk_without_a_score_layer_starts_a_classifier(backbone: str, tmp_path: Path) -> None:
    """A detector's trunk is stored without the layers that only a classifier needs."""
    sizes = {"img_size": 64} if backbone.startswith("swin") else {}
    args = {"width": 16, "box_width": 16}
    specs = [
        ModelSpec(backbone, {"detect": HeadConfig("detect", OLD, "faster-rcnn", args)}, backbone_args=sizes),
        ModelSpec(backbone, {"classify": HeadConfig("classify", OLD)}, backbone_args=sizes),
    ]
    source, model = (Model.build(spec) for spec in specs)
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    notes = start_from(model, bundle_of(tmp_path / "b", specs[0], source), specs[1])
    stored, loaded = source.state_dict(), model.state_dict()
    new = [key for key in loaded if key not in stored]
    assert new
    assert all(torch.equal(loaded[key], fresh[key]) for key in new)
    assert all(torch.equal(loaded[key], stored[key]) for key in loaded if key in stored)
    assert any("is new" in note for note in notes), notes


@pytest.mark.parametrize(("task", "head"), [("instances", "mask-rcnn"), ("detect", "retinanet")])
def test_another_task_or_head_gets_the_trunk_alone(task: str, head: str, tmp_path: Path) -> None:
    spec, model = made("detect", OLD)
    source = bundle_of(tmp_path / "b", spec, model)
    ours, other = made(task, OLD, head, seed=1)
    fresh = {key: value.clone() for key, value in other.state_dict().items()}
    notes = start_from(other, source, ours)
    count = sum(not key.startswith("trunk.") for key in model.state_dict())
    assert any(
        note.startswith(f"{count} tensors of a task head left out: it is of detect, head faster-rcnn") for note in notes
    )
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key] if key.startswith("trunk.") else fresh[key]), key


def test_counts_by_module() -> None:
    keys = ["fpn.inner_blocks.0.0.weight", "fpn.inner_blocks.1.0.weight", "rpn.head.conv.0.0.bias", "scores.weight"]
    assert by_module(keys) == "fpn.inner_blocks 2, rpn.head 1, scores 1"
