"""One trunk under several heads: it runs once, and each head computes what it computes alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fishnet.bundle.bundle import Bundle, HeadConfig, read_bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.base import SegmentationTarget
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.classification.losses import ClassificationLoss
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.segmentation.losses import SegmentationLoss
from fishnet.tasks.store import load_model, save_weights
from fishnet.tasks.trunk import Trunk, Wants, build_backbone
from tests.backbone.helpers import filled

COLOURS, THINGS = Classes.of(["blue", "green", "red"]), Classes.of(["ground", "berry"])
HEADS = {
    "classify": HeadConfig("classify", COLOURS),
    "segment": HeadConfig("segment", THINGS, "fpn", {"width": 32}),
    "detect": HeadConfig("detect", THINGS, "faster-rcnn", {"width": 16, "box_width": 16, "proposals": 20}),
}
BACKBONES = ["fishnet_nano", "resnet18", "convnext_atto"]


def built(*names: str, backbone: str = "fishnet_nano", **changed: HeadConfig) -> Model:
    torch.manual_seed(0)
    heads = {name: {**HEADS, **changed}[name] for name in names}
    return Model.build(ModelSpec(backbone, heads))


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def alone(model: Model, name: str, backbone: str, **changed: HeadConfig) -> Model:
    """The model of one of the heads, with the same weights where it has them."""
    single = built(name, backbone=backbone, **changed)
    state = model.state_dict()
    single.load_state_dict({key: state[key] for key in single.state_dict()})
    return single.eval()


def flat(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return [part for one in (outputs.values() if isinstance(outputs, dict) else outputs) for part in flat(one)]


@pytest.mark.parametrize("names", [("classify", "segment"), ("segment", "detect"), ("classify", "segment", "detect")])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_each_head_computes_what_it_computes_alone(backbone: str, names: tuple[str, ...]) -> None:
    model = built(*names, backbone=backbone).eval()
    outputs = model(images())
    assert tuple(outputs) == names
    for name in names:
        found, wanted = flat(outputs[name]), flat(alone(model, name, backbone)(images())[name])
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other), name


@pytest.mark.parametrize("head", ["body", "fish"])
@torch.no_grad()
def test_the_fishs_own_heads_beside_a_classifier(head: str) -> None:
    """A segmenter with head body prunes the fish's head; with a classifier beside it the fish's head stays."""
    config = HeadConfig("segment", THINGS, head, {"width": 16, "edges": True})
    model = built("classify", "segment", segment=config).eval()
    outputs = model(images())
    for name in ("classify", "segment"):
        single = alone(model, name, "fishnet_nano", segment=config)
        assert torch.equal(outputs[name], single(images())[name]), name


def test_the_trunk_runs_once_and_both_gradients_reach_the_stem() -> None:
    model = built("classify", "segment").train()
    runs: list[Any] = []
    model.trunk.backbone.stem.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    labels = torch.tensor([0, 2])
    masks = [SegmentationTarget(torch.randint(0, 2, (64, 96), dtype=torch.uint8)) for _ in range(2)]
    outputs = model(images(), {"classify": labels, "segment": masks})
    assert runs == [1]
    losses = (
        ClassificationLoss(0.0, None)(outputs["classify"], labels)["cross_entropy"],
        SegmentationLoss({"cross-entropy": 1.0})(outputs["segment"], masks)["cross-entropy"],
    )
    stem = next(model.trunk.backbone.stem.parameters())  # type: ignore[union-attr]
    gradients = [torch.autograd.grad(loss, stem, retain_graph=True)[0] for loss in losses]
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    assert not torch.equal(*gradients)
    sum(losses).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(stem.grad, sum(gradients))


@torch.no_grad()
def test_other_sizes_are_padded_once_for_all() -> None:
    """Images are padded for the head that wants it, and the objects of the other heads stay within the image."""
    model = built("segment", "detect").eval()
    seen: list[tuple[int, ...]] = []
    model.trunk.backbone.stem.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))  # type: ignore[union-attr]
    outputs = model(images(70, 90))
    assert seen == [(96, 96)]
    assert outputs["segment"].shape == (2, len(THINGS), 70, 90)
    for found in outputs["detect"]:
        assert (found["boxes"] <= torch.tensor([90, 70, 90, 70])).all()


def test_pruned_once_to_what_is_wanted() -> None:
    def parameters(*names: str, **changed: HeadConfig) -> int:
        return sum(p.numel() for p in built(*names, **changed).trunk.parameters())

    body = HeadConfig("segment", THINGS, "body", {"width": 16})
    assert parameters("segment", segment=body) < parameters("segment", "detect", segment=body)
    assert parameters("segment", "detect", segment=body) == parameters("detect")
    assert parameters("detect") < parameters("classify", "detect") == parameters("classify")


def test_score_layers_of_two_sizes_cannot_be_one() -> None:
    with pytest.raises(InputError, match="2 and 3 classes cannot share"):
        Model.build(ModelSpec("fishnet_nano", {"a": HEADS["classify"], "b": HeadConfig("classify", THINGS)}))


def test_the_output_stride_is_the_trunks_own_where_a_head_wants_it() -> None:
    alone, both = Wants(maps=(4, 16), output_stride=16), Wants(maps=(4, 8, 16, 32))
    assert Wants.union([alone]).output_stride == 16
    assert Wants.union([alone, both]).output_stride is None


def test_maps_by_stride_and_by_name_are_the_same() -> None:
    trunk = Trunk(build_backbone("fishnet_nano", Wants()), Wants(maps=(8, "head.0", "stem.2"))).eval()
    with torch.no_grad():
        maps = trunk(images()).maps
    assert maps[8] is maps["head.0"]
    assert maps["stem.2"].shape[-2:] == (32, 48)
    with pytest.raises(InputError, match=r"resnet18 has no stage body\.1"):
        Trunk(build_backbone("resnet18", Wants()), Wants(maps=("body.1",)))


def test_a_bundle_of_two_heads(tmp_path: Any) -> None:
    heads = {name: HEADS[name] for name in ("classify", "segment")}
    model = filled(built(*heads))
    assert isinstance(model, Model)
    write_bundle(tmp_path, Bundle("fishnet_nano", heads, Preprocess((64, 64))), lambda path: save_weights(model, path))
    bundle, again = load_model(tmp_path)
    assert bundle == read_bundle(tmp_path)
    assert bundle.heads == heads
    with torch.no_grad():
        for name, outputs in again(images()).items():
            assert torch.equal(outputs, model(images())[name])
    with pytest.raises(
        InputError, match=r"several heads \(classify, segment\): only models with one head are supported"
    ):
        _ = bundle.classes
