"""Hybrid Task Cascade: what flows where, part by part, and what it is without its parts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.selection import SelectedDetection
from fishnet.data.segmentation.base import SegmentationTarget
from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe
from fishnet.tasks import get_task
from fishnet.tasks.detection import htc
from fishnet.tasks.detection.htc import IGNORED, semantic_labels, semantic_loss
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.model import Model, ModelSpec
from tests.tasks.detection.test_heads import CLASSES, HEIGHT, SMALL, WIDTH, batch, build, known, target
from tests.tasks.single import Single

PARTS = ("htc_interleaved", "htc_mask_flow", "htc_semantic")
OFF = replace(SMALL, htc_interleaved=False, htc_mask_flow=False, htc_semantic=False)
_NO_IMAGES: Any = SelectedDetection.__new__(SelectedDetection)  # is not read without anchors=auto
ALONE = {part: replace(OFF, **{part: True}) for part in PARTS}


def losses_of(model: Single, targets: list[DetectionTarget] | None = None, seed: int = 0) -> dict[str, Tensor]:
    images, default = batch()
    torch.manual_seed(seed)
    losses: dict[str, Tensor] = model.train()(images, targets or default)["losses"]
    return losses


def reached(model: Single, loss: Tensor) -> set[str]:
    """The names of the parameters that a loss has a gradient for other than 0."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def stages_of(names: set[str], part: str) -> set[int]:
    """The numbers, from 1, of the stages with one of these parameters in a part such as ``mask_head``."""
    prefix = "heads.instances.roi_heads.stages."
    return {
        int(name[len(prefix)]) + 1
        for name in names
        if name.startswith(prefix) and name[len(prefix) + 2 :].startswith(part)
    }


class TestWithoutItsParts:
    def test_it_is_cascade_mask_rcnn(self) -> None:
        """The same tensors, and for the same weights and seed the same losses, gradients and detections, to the bit."""
        cascade, ours = build("instances", "cascade-mask-rcnn"), build("instances", "htc", spec=OFF)
        shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (cascade, ours)]
        assert shapes[0] == shapes[1]
        ours.load_state_dict(cascade.state_dict())
        expected, actual = known(cascade, batch()[0]), known(ours, batch()[0])
        for one, other in zip(expected, actual, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
        losses = [losses_of(model) for model in (cascade, ours)]
        assert losses[0].keys() == losses[1].keys()
        assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
        for values in losses:
            torch.stack(list(values.values())).sum().backward()
        for one, other in zip(cascade.parameters(), ours.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("part", "modules"),
        [("htc_interleaved", set()), ("htc_mask_flow", {"mask_flow"}), ("htc_semantic", {"semantic"})],
    )
    def test_a_part_adds_its_own_tensors_alone(self, part: str, modules: set[str]) -> None:
        base, more = (set(build("instances", "htc", spec=spec).state_dict()) for spec in (OFF, ALONE[part]))
        assert {name.split(".")[3] for name in more - base} == modules
        assert base <= more


class TestInterleaved:
    def mask_boxes(self, spec: DetectorSpec, monkeypatch: pytest.MonkeyPatch) -> Any:
        """For each stage: the boxes that masks are pooled from in training, and those that its box head refined."""
        from fishnet.tasks.detection import cascade

        model = build("instances", "htc", spec=spec)
        pooled: list[list[Tensor]] = []
        refined: list[list[Tensor]] = []
        proposals: list[list[Tensor]] = []
        refine = cascade._refine_proposals

        def recorded(stage: Any, deltas: Tensor, boxes: list[Tensor], *args: Any, **options: Any) -> list[Tensor]:
            proposals.append(boxes)
            refined.append(refine(stage, deltas, boxes, *args, **options))
            return list(refined[-1])

        monkeypatch.setattr(cascade, "_refine_proposals", recorded)
        for stage in model.head.roi_heads.stages:
            stage.mask_roi_pool.register_forward_hook(lambda _module, inputs, _output: pooled.append(inputs[1]))
        losses_of(model)
        assert len(pooled) == len(refined) == len(proposals) == 3
        return pooled, refined, proposals

    @pytest.mark.parametrize("interleaved", [True, False])
    def test_masks_are_trained_on_refined_boxes(self, interleaved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or on the objects' own boxes, which torchvision adds to the proposals of every stage."""
        spec = replace(OFF, htc_interleaved=interleaved)
        objects = batch()[1][0].boxes
        others = 0
        for pooled, refined, proposals in zip(*self.mask_boxes(spec, monkeypatch), strict=True):
            source = refined[0] if interleaved else proposals[0]
            for box in pooled[0]:
                is_object, is_source = ((boxes == box).all(1).any() for boxes in (objects, source))
                assert is_object or is_source
                others += int(not is_object)
            assert len(pooled[1]) == 0, "the second image has no objects"
        assert others > 0, "not only the objects' own boxes"

    def test_the_boxes_are_matched_again_by_the_stages_own_iou(self) -> None:
        """A refined box that overlaps an object by less than a stage wants is no sample of its mask head."""
        model = build("instances", "htc", spec=ALONE["htc_interleaved"])
        heads = model.head.roi_heads
        objects = {**model.head.training_target(batch()[1][0]), "labels": torch.tensor([1, 3])}
        exact, shifted = torch.tensor([4.0, 4, 30, 30]), torch.tensor([4.0, 4, 30, 45])  # IoU 1 and 0.63
        for stage, positives in zip(heads.stages, (4, 4, 3), strict=True):
            _, matched, labels = heads._mask_samples(stage, ([], [], []), [torch.stack([exact, shifted])], [objects])
            assert int((labels[0] > 0).sum()) == positives, "with the two objects' own boxes"
            assert set(matched[0].tolist()) <= {0, 1}


class TestMaskFlow:
    @pytest.mark.parametrize("flow", [True, False])
    def test_a_mask_loss_reaches_the_mask_heads_before_it(self, flow: bool) -> None:
        model = build("instances", "htc", spec=replace(OFF, htc_mask_flow=flow))
        losses = losses_of(model)
        for number in (1, 2, 3):
            names = reached(model, losses[f"stage{number}_mask"])
            assert stages_of(names, "mask_head") == (set(range(1, number + 1)) if flow else {number})
            assert stages_of(names, "mask_predictor") == {number}
            convs = {name for name in names if ".mask_flow." in name and name.endswith("weight")}
            assert len(convs) == (number - 1 if flow else 0)

    def test_all_masks_are_of_the_same_boxes(self) -> None:
        """In prediction the heads run once in a row, and each equals what training computes for that stage."""
        model = build("instances", "htc").eval()
        heads, (images, _) = model.head.roi_heads, batch()
        features = model.features(images)
        maps = model.head.pyramid(features)
        maps = {**maps, "semantic": heads.semantic.embedding(heads.semantic(maps))}
        boxes = [torch.tensor([[4.0, 4, 30, 30], [50, 20, 90, 60]]), torch.tensor([[0.0, 0, 20, 40]])]
        sizes = [(HEIGHT, WIDTH)] * 2
        together = heads._all_mask_logits(maps, boxes, sizes)
        assert len(together) == 3
        for number, logits in enumerate(together, 1):
            assert torch.equal(logits, heads._mask_logits(number, maps, boxes, sizes))

    def test_predicted_masks_are_the_mean_of_the_heads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = build("instances", "htc").eval()
        heads, seen = model.head.roi_heads, []
        record = heads._all_mask_logits
        monkeypatch.setattr(heads, "_all_mask_logits", lambda *args: seen.append(record(*args)) or seen[-1])
        detections = known(model, batch()[0])
        labels = torch.cat([image["labels"] for image in detections]) + 1
        rows = torch.arange(len(labels))
        expected = torch.stack([logits.sigmoid()[rows, labels] for logits in seen[0]]).mean(0)
        assert torch.equal(torch.cat([image["masks"] for image in detections]), expected)


class TestSemantic:
    def test_its_loss_reaches_fpn_and_trunk_but_no_stage(self) -> None:
        model = build("instances", "htc")
        names = reached(model, losses_of(model)["semantic"])
        for level in range(4):
            assert f"heads.instances.fpn.inner_blocks.{level}.0.weight" in names
        assert any(name.startswith("trunk.") for name in names)
        assert not [name for name in names if ".stages." in name or ".rpn." in name or ".embedding." in name]

    def test_box_and_mask_losses_reach_it(self) -> None:
        model = build("instances", "htc")
        losses = losses_of(model)
        for kind in ("score", "box", "mask"):
            for number in (1, 2, 3):
                names = reached(model, losses[f"stage{number}_{kind}"])
                assert "heads.instances.roi_heads.semantic.embedding.weight" in names, (kind, number)
                assert not [name for name in names if ".semantic.predictor." in name]

    @pytest.mark.parametrize("semantic", [True, False])
    def test_outputs_depend_on_it_only_where_it_is_on(self, semantic: bool) -> None:
        model = build("instances", "htc", spec=replace(SMALL, htc_semantic=semantic))
        before = known(model, batch()[0])
        if semantic:
            with torch.no_grad():
                model.head.roi_heads.semantic.embedding.weight.mul_(2)
        else:
            assert model.head.roi_heads.semantic is None
        after = known(model, batch()[0])
        for name in ("boxes", "scores", "masks"):
            same = all(
                one[name].shape == other[name].shape and torch.equal(one[name], other[name])
                for one, other in zip(before, after, strict=True)
            )
            assert same == (not semantic), name

    def test_its_loss_has_the_papers_weight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(htc, "semantic_loss", lambda logits, labels: torch.tensor(10.0))
        assert losses_of(build("instances", "htc"))["semantic"] == pytest.approx(2)

    def test_features_are_at_stride_8(self) -> None:
        model = build("instances", "htc").eval()
        with torch.no_grad():
            maps = model.head.pyramid(model.features(batch()[0]))
            features = model.head.roi_heads.semantic(maps)
        assert features.shape == (2, SMALL.width, HEIGHT // 8, WIDTH // 8)

    def test_label_maps_are_learnt_where_the_data_have_them(self) -> None:
        model = build("instances", "htc", spec=replace(SMALL, semantic_classes=6))
        images, targets = batch()
        labels = torch.full((HEIGHT, WIDTH), 255, dtype=torch.uint8)
        labels[:32, :32] = 5
        assert model.head.roi_heads.semantic.predictor.out_channels == 6
        unlabelled = losses_of(model, targets)["semantic"]
        assert unlabelled == 0, "an image without a label map is not annotated"
        loss = losses_of(model, [replace(targets[0], labels_map=labels), targets[1]])["semantic"]
        features = model.head.roi_heads.semantic(model.head.pyramid(model.features(images)))
        logits = model.head.roi_heads.semantic.predictor(features)[0, :, :4, :4]
        expected = torch.nn.functional.cross_entropy(logits.flatten(1).T, torch.full((16,), 5))
        assert torch.allclose(loss, 0.2 * expected, rtol=1e-4)  # the order of a sum in float32

    def test_beside_a_segmenter_it_learns_from_the_same_label_maps(self) -> None:
        """As in a panoptic model. The image is smaller than its input, which is padded for the segmenter."""
        args = replace(SMALL, semantic_classes=2).to_dict()
        heads = {
            "instances": HeadConfig("instances", CLASSES, "htc", args),
            "segment": HeadConfig("segment", Classes.of(["things", "ground"]), "fpn", {"width": 32}),
        }
        torch.manual_seed(0)
        model = Model.build(ModelSpec("fishnet_nano", heads)).train()
        images, (objects, _) = batch()
        assert objects.masks is not None
        height, width = 50, 90
        segments = SegmentationTarget(1 - objects.masks.amax(0)[:height, :width])
        objects = replace(objects, masks=objects.masks[:, :height, :width], labels_map=segments.labels)
        outputs = model(images[:1, :, :height, :width], {"instances": [objects], "segment": [segments]})
        losses = outputs["instances"]["losses"]
        assert losses["semantic"] > 0
        (torch.stack(list(losses.values())).sum() + outputs["segment"]["logits"].square().mean()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []

    def test_classes_of_label_maps_are_not_those_of_the_objects(self) -> None:
        """Only rows of the objects' classes are matched by name when weights are transferred."""
        name = "heads.instances.roi_heads.semantic.predictor"
        for count, expected in ((0, True), (4, False)):
            model = build("instances", "htc", spec=replace(SMALL, semantic_classes=count))
            assert (name in model.class_rows()["instances"]) == expected

    def test_a_batch_of_ignored_pixels_gives_every_parameter_a_gradient(self) -> None:
        model = build("instances", "htc")
        crowd = target([[0, 0, WIDTH, HEIGHT]], [1], [True])
        losses = losses_of(model, [crowd, crowd])
        assert losses["semantic"] == 0
        torch.stack(list(losses.values())).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


class TestLabels:
    def test_the_smallest_object_is_on_top(self) -> None:
        for boxes, classes in (
            ([[0, 0, 40, 40], [10, 10, 20, 20]], [2, 0]),
            ([[10, 10, 20, 20], [0, 0, 40, 40]], [0, 2]),
        ):
            labels = semantic_labels(target(boxes, classes), 0)
            assert labels.dtype == torch.int64
            assert labels.shape == (HEIGHT, WIDTH)
            assert labels[15, 15] == 1
            assert labels[5, 5] == 3
            assert labels[50, 50] == 0
            assert (labels == 1).sum() == 100
            assert (labels == 3).sum() == 1500

    def test_crowds_are_ignored_where_no_object_covers_them(self) -> None:
        labels = semantic_labels(target([[0, 0, 40, 40], [10, 10, 20, 20]], [2, 0], [True, False]), 0)
        assert labels[5, 5] == IGNORED
        assert labels[15, 15] == 1
        assert (labels == IGNORED).sum() == 1500

    def test_an_image_without_objects_is_background(self) -> None:
        assert (semantic_labels(target([], []), 0) == 0).all()

    def test_many_objects(self) -> None:
        """The same as painting one object after the other, the largest first; of equal ones the first is on top."""
        generator = torch.Generator().manual_seed(0)
        corners = torch.randint(0, 40, (30, 2), generator=generator)
        boxes = torch.cat([corners, corners + torch.randint(2, 20, (30, 2), generator=generator)], 1).float()
        classes = torch.randint(0, 3, (30,), generator=generator)
        objects = target(boxes.tolist(), classes.tolist())
        assert objects.masks is not None
        expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
        areas = [int(mask.sum()) for mask in objects.masks]
        for i in sorted(range(30), key=lambda i: (-areas[i], -i)):
            expected[objects.masks[i].bool()] = classes[i] + 1
        assert torch.equal(semantic_labels(objects, 0), expected)


class TestLoss:
    def test_pixels_are_compared_with_the_labels_at_their_centres(self) -> None:
        labels = torch.zeros(16, 24, dtype=torch.int64)
        labels[4, 12] = 1  # the centre of the second pixel of the first row
        logits = torch.zeros(1, 2, 2, 3)
        logits[:, 1, 0, 1], logits[:, 0] = 20.0, 10.0
        assert semantic_loss(logits, [labels]) < 1e-3
        assert semantic_loss(logits, [torch.zeros_like(labels)]) > 1

    def test_padding_and_ignored_pixels_do_not_count(self) -> None:
        logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        labels = torch.ones(16, 16, dtype=torch.int64)  # an image smaller than the padded input of 32 x 32 px
        labels[:8] = IGNORED
        expected = torch.nn.functional.cross_entropy(
            logits[:, :, 1, :2].flatten(2), torch.ones(1, 2, dtype=torch.int64)
        )
        assert torch.allclose(semantic_loss(logits, [labels]), expected)

    def test_images_of_different_sizes_in_one_batch(self) -> None:
        logits = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
        labels = [torch.ones(32, 32, dtype=torch.int64), torch.zeros(16, 64, dtype=torch.int64)]
        padded = [torch.full((32, 64), IGNORED) for _ in labels]
        padded[0][:, :32], padded[1][:16] = 1, 0
        assert torch.equal(semantic_loss(logits, labels), semantic_loss(logits, padded))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("task", "head"), [("detect", "default"), ("instances", "mask-rcnn"), ("instances", "cascade-mask-rcnn")]
)
def test_parts_are_refused_for_other_heads(task: str, head: str, part: str) -> None:
    recipe = Recipe().replace({"head": head, part: False})
    with pytest.raises(InputError, match=f"{part}=False: applies to the head htc"):
        get_task(task).head_args(recipe, _NO_IMAGES, None, print)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_the_recipe_reach_the_head(part: str) -> None:
    args = get_task("instances").head_args(Recipe().replace({"head": "htc", part: False}), _NO_IMAGES, None, print)  # type: ignore[arg-type]
    assert {name: args[name] for name in PARTS} == {name: name != part for name in PARTS}
