"""The contract of every detector head: losses in training, detections in prediction, both in validation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from fishnet.analysis.profile import cost
from fishnet.bundle.classes import Classes
from fishnet.data.detection.anchors import Anchors
from fishnet.data.detection.base import DetectionTarget
from fishnet.errors import InputError
from fishnet.tasks import get_task
from fishnet.tasks.detection.cascade import STAGES
from fishnet.tasks.detection.heads import Detector, Float32Anchors, default_anchors
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.model import ModelSpec
from fishnet.tasks.norms import group_norm
from fishnet.training.optimise import freeze_norms
from tests.tasks.single import Single

CLASSES = Classes(("cell", "dot", "rod"), (7, 0, 90))
SMALL = DetectorSpec(width=64, box_width=32, mask_width=32, proposals=50, roi_samples=32, score_threshold=0.0)
HEADS = [(name, head) for name in ("detect", "instances") for head in get_task(name).heads]
HEIGHT, WIDTH = 64, 96


def build(task: str, head: str, backbone: str = "fishnet_nano", spec: DetectorSpec = SMALL, **args: Any) -> Single:
    torch.manual_seed(0)
    spec_of_model = ModelSpec.single(task, backbone, CLASSES, head=head, head_args=spec.to_dict(), backbone_args=args)
    built = Single.build(spec_of_model)
    assert isinstance(built.head, Detector)
    return built


def target(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> DetectionTarget:
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    crowd = crowd or [False] * len(boxes)
    return DetectionTarget(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd, dtype=torch.bool),
        masks,
    )


def batch(seed: int = 0) -> tuple[Tensor, list[DetectionTarget]]:
    """Two images, the second without an object."""
    images = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return images, [target([[4, 4, 30, 30], [50, 20, 90, 60]], [0, 2]), target([], [])]


def total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def known(model: Single, images: Tensor) -> list[dict[str, Tensor]]:
    with torch.inference_mode():
        detections: list[dict[str, Tensor]] = model.eval()(images)
    return detections


def test_anchors_do_not_depend_on_the_maps_arithmetic() -> None:
    anchors = Float32Anchors(((20.0,),), ((0.5, 1.0),))
    images = ImageList(torch.empty(1, 1, 800, 800, device="meta"), [(800, 800)])
    maps = torch.zeros(1, 4, 100, 100)
    expected = anchors(images, [maps])[0]
    assert expected.dtype == torch.float32
    assert torch.equal(anchors(images, [maps.bfloat16()])[0], expected)
    assert expected[-1, :2].tolist() == [99 * 8 - 10, 99 * 8 - 10]


@pytest.mark.parametrize(("task", "head"), HEADS)
class TestHead:
    def test_training_gives_finite_losses_and_gradients_everywhere(self, task: str, head: str) -> None:
        model = build(task, head).train()
        images, targets = batch()
        outputs = model(images, targets)
        assert outputs["detections"] == []
        assert all(torch.isfinite(loss) for loss in outputs["losses"].values())
        assert any("mask" in name for name in outputs["losses"]) == (task == "instances")
        total(outputs["losses"]).backward()
        # Several processes wait for each parameter's gradient: none may be left without.
        assert [name for name, p in model.named_parameters() if p.grad is None] == []

    def test_boxes_and_scores_are_exact_in_mixed_arithmetic(self, task: str, head: str) -> None:
        """No output was rounded to bf16; many of FCOS' boxes lie on its grid of whole px anyway."""
        model = build(task, head).eval()
        images = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            detections = model(images)[0]
        inside = detections["boxes"][(detections["boxes"] > 64) & (detections["boxes"] < 319)]
        for values in (inside, detections["scores"]):
            assert values.dtype == torch.float32
            assert len(values) > 20
            assert (values == values.bfloat16()).float().mean() < 0.8

    def test_a_batch_without_any_object_trains(self, task: str, head: str) -> None:
        model = build(task, head).train()
        losses = model(batch()[0], [target([], []), target([], [])])["losses"]
        total(losses).backward()
        assert torch.isfinite(total(losses))
        assert [name for name, p in model.named_parameters() if p.grad is None] == []

    def test_detections_are_what_is_promised(self, task: str, head: str) -> None:
        model = build(task, head)
        detections = known(model, batch()[0])
        assert len(detections) == 2
        for one in detections:
            boxes, scores, labels = one["boxes"], one["scores"], one["labels"]
            assert boxes.shape == (len(scores), 4)
            assert len(scores) == len(labels) > 0
            assert (boxes[:, :2] <= boxes[:, 2:]).all()
            assert boxes.min() >= 0
            assert (boxes.amax(0) <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()
            assert ((scores >= 0) & (scores <= 1)).all()
            assert (scores.diff() <= 0).all()
            assert set(labels.tolist()) <= {0, 1, 2}
            assert ("masks" in one) == (task == "instances")
            if task == "instances":
                assert one["masks"].shape == (len(scores), 28, 28)
                assert ((one["masks"] >= 0) & (one["masks"] <= 1)).all()

    def test_validation_gives_both_and_changes_nothing(self, task: str, head: str) -> None:
        model = build(task, head).eval()
        images, targets = batch()
        modes = [part.training for part in model.modules()]
        with torch.no_grad():
            outputs = model(images, targets)
        assert [part.training for part in model.modules()] == modes
        alone = known(model, images)
        for one, other in zip(outputs["detections"], alone, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in other)
        assert torch.isfinite(total(outputs["losses"]))

    def test_overfits_one_image(self, task: str, head: str) -> None:
        """Some steps on one image reduce the loss by a large factor."""
        model = build(task, head).train()
        images, targets = batch()
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        losses = []
        for step in range(25):
            torch.manual_seed(step)
            loss = total(model(images[:1], targets[:1])["losses"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-5:]) < 0.7 * sum(losses[:5])

    def test_spec_travels_as_plain_values(self, task: str, head: str) -> None:
        import json

        spec = replace(SMALL, anchors=Anchors(tuple((8.0 * 2**i,) for i in range(5)), (0.5, 1.0, 2.0)))
        assert DetectorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
        state = build(task, head, spec=spec).state_dict()
        build(task, head, spec=DetectorSpec.from_dict(spec.to_dict())).load_state_dict(state)

    def test_macs_are_counted(self, task: str, head: str) -> None:
        model = build(task, head)
        assert cost(model, (3, 64, 64)).macs > cost(model.backbone, (3, 64, 64)).macs > 0
        assert next(model.parameters()).device.type == "cpu"

    @pytest.mark.parametrize("norm", ["none", "batch"])
    def test_norms(self, task: str, head: str, norm: Any) -> None:
        model = build(task, head, spec=replace(SMALL, norm=norm)).train()
        kinds = {type(part).__name__ for name, part in model.named_modules() if not name.startswith("trunk")}
        assert ("BatchNorm2d" in kinds) == (norm == "batch")
        images, targets = batch()
        assert torch.isfinite(total(model(images, targets)["losses"]))


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002"])
@pytest.mark.parametrize(("task", "head"), [("detect", "retinanet"), ("instances", "mask-rcnn")])
def test_any_backbone(task: str, head: str, backbone: str) -> None:
    model = build(task, head, backbone).train()
    images, targets = batch()
    total(model(images, targets)["losses"]).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert known(model, images)


def test_labels_count_from_zero_in_every_head() -> None:
    """A head that has learned one class predicts that class: torchvision's +1 of labels stays inside the head."""
    for task, head in HEADS:
        model = build(task, head).train()
        images, _ = batch()
        targets = [target([[10, 10, 60, 50]], [1])]
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        for step in range(40):
            torch.manual_seed(step)
            optimizer.zero_grad()
            total(model(images[:1], targets)["losses"]).backward()
            optimizer.step()
        # Running statistics of so few steps are not the images': batch norms judge by the batch here.
        model.eval()
        for part in model.backbone.modules():
            part.training = isinstance(part, torch.nn.BatchNorm2d)
        with torch.no_grad():
            best = model(images[:1])[0]
        assert best["labels"][0] == 1, (task, head)


def test_a_crowd_is_not_learnt() -> None:
    for task, head in HEADS:
        model = build(task, head).train()
        images, _ = batch()
        torch.manual_seed(0)
        crowd = model(images[:1], [target([[4, 4, 30, 30]], [0], [True])])["losses"]
        torch.manual_seed(0)
        nothing = model(images[:1], [target([], [])])["losses"]
        for losses in (crowd, nothing):
            losses.pop("semantic", None)  # of htc, which ignores the pixels of crowds: see test_htc.py
        assert torch.equal(total(crowd), total(nothing)), (task, head)


def test_cascade_rises() -> None:
    ious = [stage[0] for stage in STAGES]
    assert ious == sorted(ious)
    assert len(set(ious)) == 3
    model: Any = build("instances", "cascade-mask-rcnn")
    assert [stage.proposal_matcher.high_threshold for stage in model.head.roi_heads.stages] == ious
    assert all(stage.has_mask() for stage in model.head.roi_heads.stages)


def test_a_shared_batch_changes_no_image() -> None:
    """Two images of one size have the same outputs as each alone, up to float32 rounding."""
    for task, head in HEADS:
        model = build(task, head)
        images, _ = batch()
        together = known(model, images)
        for i in range(2):
            alone = known(model, images[i : i + 1])[0]
            assert torch.allclose(together[i]["scores"], alone["scores"], atol=1e-4), (task, head)


def test_trunk_is_pruned_to_what_is_used() -> None:
    names = [name for name, _ in build("detect", "fcos").named_parameters()]
    assert not [name for name in names if name.startswith("trunk.backbone.score")]


def test_frozen_norms_stay() -> None:
    model = build("detect", "faster-rcnn")
    norms = freeze_norms(model)
    assert norms
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    model.train()
    for norm in norms:
        norm.eval()
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr,operator]
    images, targets = batch()
    total(model(images, targets)["losses"]).backward()
    assert all(torch.equal(a, norm.running_mean) for a, norm in zip(before, norms, strict=True))  # type: ignore[arg-type]


def test_group_norm_in_the_trunk() -> None:
    model = build("detect", "faster-rcnn", norm_layer="groupnorm")
    assert not [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("channels", [8, 32, 48, 64, 100, 256])
def test_groups_have_more_than_one_value(channels: int) -> None:
    norm = group_norm(channels)
    assert channels // norm.num_groups >= 2
    assert norm(torch.randn(1, channels, 1, 1)).shape == (1, channels, 1, 1)


def test_default_anchors_are_the_published_ones() -> None:
    assert default_anchors(1).sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert default_anchors(3).sizes[0] == pytest.approx((32.0, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)))


@pytest.mark.parametrize(
    ("task", "head", "spec", "said"),
    [
        ("detect", "fcos", replace(SMALL, width=48), "fpn_channels=48"),
        ("detect", "mask-rcnn", SMALL, "unknown head 'mask-rcnn' for detect"),
        ("instances", "fcos", SMALL, "unknown head 'fcos' for instances"),
    ],
)
def test_refused(task: str, head: str, spec: DetectorSpec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build(task, head, spec=spec)


def test_a_trunk_without_a_pyramid_is_refused() -> None:
    with pytest.raises(InputError, match="no usable pyramid"):
        build("detect", "faster-rcnn", end="body")


def test_unknown_head_args_are_refused() -> None:
    with pytest.raises(InputError, match="head_args"):
        DetectorSpec.from_dict({"widht": 3})
