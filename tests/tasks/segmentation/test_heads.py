"""The contract of every segmenter head: logits of the input's size over any trunk, gradients for all parameters."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fishnet.analysis.profile import cost
from fishnet.backbone import STAGES
from fishnet.backbone.registry import any_size_args
from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.base import IGNORE, SegmentationTarget
from fishnet.errors import InputError
from fishnet.tasks.model import ModelSpec
from fishnet.tasks.segmentation.heads import (
    FPN,
    BodySegmenter,
    DeepLabV3Plus,
    FishSegmenter,
    SegFormer,
    Segmenter,
    SegmenterSpec,
    UPerNet,
)
from fishnet.tasks.segmentation.losses import SegmentationLoss
from fishnet.training.optimise import freeze
from tests.tasks.single import Single

CLASSES = Classes(("ground", "berry", "leaf"), (0, 7, 90))
HEADS: dict[str, type[Segmenter]] = {
    "body": BodySegmenter, "fish": FishSegmenter, "fpn": FPN, "upernet": UPerNet, "deeplabv3plus": DeepLabV3Plus,
    "segformer": SegFormer,
}  # fmt: skip
OWN, OTHERS = ("body", "fish"), ("fpn", "upernet", "deeplabv3plus", "segformer")
POOLED = ("upernet", "deeplabv3plus")
SMALL = SegmenterSpec(width=32, auxiliary=True)
SIZES = [(64, 64), (33, 47), (100, 70), (32, 32)]
TRUNKS = [
    "resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002", "swin_tiny_patch4_window7_224", "fishnet99",
]  # fmt: skip


def build(
    head: str, backbone: str = "fishnet_nano", spec: SegmenterSpec = SMALL, channels: int = 3, **args: Any
) -> Single:
    torch.manual_seed(0)
    args = {**any_size_args(backbone), **args}
    return Single.build(
        ModelSpec.single("segment", backbone, CLASSES, channels, head, spec.to_dict(), backbone_args=args)
    )


def images(count: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(0))


def targets(count: int, size: tuple[int, int]) -> list[SegmentationTarget]:
    """Random labels, a tenth of them ignored."""
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(0, len(CLASSES), (count, *size), generator=random, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=random) < 0.1] = IGNORE
    return [SegmentationTarget(one) for one in labels]


def step(model: Single, count: int = 2, size: tuple[int, int] = (64, 64), channels: int = 3) -> dict[str, Tensor]:
    """One training step's outputs, with all gradients computed."""
    outputs: dict[str, Tensor] = model.train()(images(count, size, channels), wanted := targets(count, size))
    total(SegmentationLoss({"cross-entropy": 1.0}, auxiliary=0.4)(outputs, wanted)).backward()
    return outputs


def total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def without_gradient(model: Single) -> list[str]:
    """In distributed training processes wait for each parameter's gradient, so every parameter must have one."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@torch.no_grad()
def scored(model: Single, images: Tensor) -> Tensor:
    found: Tensor = model.eval()(images)
    return found


# --- every head over every trunk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
class TestHead:
    @pytest.mark.parametrize("size", SIZES)
    def test_scores_are_of_the_inputs_size(self, head: str, size: tuple[int, int]) -> None:
        model = build(head)
        found = scored(model, images(2, size))
        assert found.shape == (2, len(CLASSES), *size)
        assert found.isfinite().all()
        with torch.no_grad():
            both = model(images(2, size), targets(2, size))
        assert set(both) == {"logits", "auxiliary"}
        assert torch.equal(both["logits"], found)
        assert both["auxiliary"].shape == found.shape
        assert not torch.equal(both["auxiliary"], found)

    def test_a_step_reaches_every_parameter(self, head: str) -> None:
        model = build(head)
        step(model, size=(64, 96))
        assert without_gradient(model) == []
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.backbone.stem.parameters())

    def test_a_batch_without_a_label_still_reaches_every_parameter(self, head: str) -> None:
        """The batch of a process without a readable image; in evaluation mode, because it is one image."""
        model = build(head).eval()
        nothing = [SegmentationTarget(torch.full((1, 1), IGNORE, dtype=torch.uint8))]
        loss = total(SegmentationLoss({"dice": 1.0}, auxiliary=0.4)(model(images(1, (64, 64)), nothing), nothing))
        loss.backward()
        assert loss == 0
        assert without_gradient(model) == []
        assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)

    def test_without_auxiliary_scores(self, head: str) -> None:
        model = build(head, spec=replace(SMALL, auxiliary=False))
        assert set(step(model)) == {"logits"}
        assert without_gradient(model) == []
        assert not [name for name, _ in model.named_parameters() if "auxiliary" in name]

    @pytest.mark.parametrize("norm", ["group", "batch", "none"])
    def test_norms(self, head: str, norm: Any) -> None:
        model = build(head, spec=replace(SMALL, norm=norm))
        beside = [part for name, part in model.named_modules() if not name.startswith("trunk")]
        for kind, name in ((torch.nn.BatchNorm2d, "batch"), (torch.nn.GroupNorm, "group")):
            assert any(isinstance(part, kind) for part in beside) == (norm == name)
        step(model)
        assert without_gradient(model) == []

    def test_grey_images(self, head: str) -> None:
        model = build(head, channels=1)
        assert step(model, channels=1)["logits"].shape == (2, len(CLASSES), 64, 64)
        assert without_gradient(model) == []

    def test_mixed_precision(self, head: str) -> None:
        """Logits are resized in float32: bf16 would give steps between two px."""
        model = build(head).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = model(images(1, (64, 96)), targets(1, (64, 96)))
        for values in found.values():
            assert values.dtype == torch.float32
            assert (values == values.bfloat16()).float().mean() < 0.5
        force_float32 = scored(model, images(1, (64, 96)))
        assert (
            found["logits"] - force_float32
        ).abs().max() < 0.05 * force_float32.abs().max()  # some layers of 3 digits each
        with torch.autocast("cpu", torch.bfloat16):
            step(model)
        assert without_gradient(model) == []

    def test_one_image_a_step(self, head: str) -> None:
        if head not in POOLED:
            step(build(head), count=1)
        else:
            said = "batch_size=1: .* increase batch_size, or use head_norm=group"
            with pytest.raises(InputError, match=said) as caught:
                step(build(head), count=1)
            assert "\n" not in str(caught.value)
            assert scored(build(head), images(1, (64, 64))).isfinite().all()
        for norm in ("group", "none"):
            model = build(head, spec=replace(SMALL, norm=norm))
            step(model, count=1)
            assert without_gradient(model) == []

    def test_a_shared_batch_changes_no_image(self, head: str) -> None:
        model = build(head)
        together = scored(model, images(2, (64, 96)))
        for i in range(2):  # float32 in another order
            torch.testing.assert_close(scored(model, images(2, (64, 96))[i : i + 1])[0], together[i], atol=1e-4, rtol=0)

    def test_padding_is_of_zeros_right_and_below(self, head: str) -> None:
        model = build(head)
        photo = images(1, (70, 90))
        by_hand = scored(model, F.pad(photo, (0, 6, 0, 26)))
        assert by_hand.shape[-2:] == (96, 96)
        assert torch.equal(scored(model, photo), by_hand[..., :70, :90])

    def test_overfits_two_images(self, head: str) -> None:
        """Some steps on two images reduce the loss by a large factor."""
        model = build(head, spec=replace(SMALL, auxiliary=False)).train()
        blocks = np.kron(np.random.default_rng(0).integers(0, 3, (2, 4, 4)), np.ones((16, 16))).astype(np.uint8)
        wanted = [SegmentationTarget(torch.from_numpy(one)) for one in blocks]
        inputs = F.one_hot(torch.from_numpy(blocks).long(), 3).permute(0, 3, 1, 2).float() + 0.1 * images(2, (64, 64))
        criterion, losses = SegmentationLoss({"cross-entropy": 1.0}), []
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        for _ in range(30):
            loss = total(criterion(model(inputs, wanted), wanted))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]

    def test_dropout_is_of_training_alone(self, head: str) -> None:
        model = build(head, spec=replace(SMALL, drop_rate=0.5))
        assert torch.equal(scored(model, images(1, (64, 64))), scored(build(head), images(1, (64, 64))))
        model.head.drop.train()
        with torch.no_grad():
            assert not torch.equal(model(images(1, (64, 64))), model(images(1, (64, 64))))

    def test_recomputed_features_are_the_same(self, head: str) -> None:
        plain, recomputing = build(head), build(head)
        recomputing.backbone.set_grad_checkpointing(True)
        assert torch.equal(step(plain)["logits"], step(recomputing)["logits"])
        for (name, one), other in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, msg=name)

    def test_a_frozen_trunk_leaves_the_decoder(self, head: str) -> None:
        model = build(head)
        freeze(model, "trunk")
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        assert trained
        assert not [name for name in trained if name.startswith("trunk")]
        step(model)

    def test_state_travels(self, head: str) -> None:
        model, other = build(head), build(head)
        spec = SegmenterSpec.from_dict(json.loads(json.dumps(replace(SMALL, drop_rate=0.1).to_dict())))
        assert spec == replace(SMALL, drop_rate=0.1)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        other.load_state_dict(model.state_dict())
        assert torch.equal(scored(model, images(1, (40, 50))), scored(other, images(1, (40, 50))))

    def test_macs_are_counted(self, head: str) -> None:
        model = build(head)
        assert cost(model, (3, 64, 64)).macs > 0
        assert cost(model, (3, 64, 64)).parameters == sum(p.numel() for p in model.parameters())
        assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize("backbone", TRUNKS)
@pytest.mark.parametrize("head", OTHERS)
def test_any_trunk(head: str, backbone: str) -> None:
    model = build(head, backbone)
    step(model)
    assert without_gradient(model) == []
    for size in SIZES:
        assert scored(model, images(1, size)).shape == (1, len(CLASSES), *size)


@pytest.mark.parametrize(
    "backbone", ["fishnet_tiny", "fishnet_small", pytest.param("fishnet99", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("head", OWN)
def test_any_fish(head: str, backbone: str) -> None:
    model = build(head, backbone)
    step(model)
    assert without_gradient(model) == []
    assert scored(model, images(1, (33, 47))).shape == (1, len(CLASSES), 33, 47)


@pytest.mark.parametrize("head", OWN)
@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("edges", [False, True])
def test_edges(head: str, edges: bool, auxiliary: bool) -> None:
    """With edges the logits are at stride 2, else at stride 4; a step changes all parameters either way."""
    model = build(head, spec=replace(SMALL, edges=edges, auxiliary=auxiliary))
    sizes = []
    model.head.scores.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[-2:])))
    step(model, size=(64, 96))
    assert sizes == [(32, 48) if edges else (16, 24)]
    assert without_gradient(model) == []


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("edges", [False, True])
def test_auxiliary_scores_are_of_the_map_at_stride_16(head: str, edges: bool) -> None:
    model = build(head, spec=replace(SMALL, edges=edges))
    seen: list[Tensor] = []
    model.head.auxiliary.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        model.eval()(images(1, (64, 96)), targets(1, (64, 96)))
    assert seen[0].shape[-2:] == (4, 6)
    stage = "body.0" if head == "body" else "head.1"
    with torch.no_grad():
        assert torch.equal(seen[0], model.backbone.forward_stages(images(1, (64, 96)), [stage])[stage])


# --- what each head is built of ---------------------------------------------------------------------------------------


def test_body_has_no_fishs_head() -> None:
    body, fish = build("body"), build("fish")
    for model, there in ((body, False), (fish, True)):
        assert any(name.startswith("trunk.backbone.head") for name, _ in model.named_parameters()) == there
        assert not [name for name, _ in model.named_parameters() if name.startswith("trunk.backbone.score")]
    small, whole = cost(body.backbone, (3, 64, 64)), cost(fish.backbone, (3, 64, 64))
    assert small.parameters < 0.7 * whole.parameters
    assert small.macs < whole.macs


@pytest.mark.parametrize(("edges", "maps"), [(False, 4), (True, 5)])
@pytest.mark.parametrize("head", ["body", "fish"])
def test_every_map_moves_the_scores(head: str, edges: bool, maps: int) -> None:
    """The heads use four of FishNet's stages, and with edges the stem's map."""
    model = build(head, spec=replace(SMALL, edges=edges, auxiliary=False)).eval()
    features = model.features(images(1, (64, 64)))
    assert len(features.maps) == maps
    with torch.no_grad():
        before = model.head.decode(features)
        for name, own in features.maps.items():
            without = {**features.maps, name: torch.zeros_like(own)}
            assert not torch.equal(model.head.decode(replace(features, maps=without)), before), name


def test_deeplab_keeps_the_last_stage_at_stride_16() -> None:
    """resnet18's layer4 is dilated instead of strided; a FishNet has its own map at stride 16."""
    model = build("deeplabv3plus", "resnet18")
    assert [(level.stride, level.channels) for level in model.trunk.levels.values()] == [(4, 64), (16, 512)]
    trunk: Any = model.backbone
    assert trunk.layer4[0].conv1.stride == (1, 1)
    with torch.no_grad():
        assert model.eval().features(images(1, (64, 96))).maps[16].shape == (1, 512, 4, 6)
    own = build("deeplabv3plus")
    trunk = own.backbone
    assert [(level.stride, level.channels) for level in own.trunk.levels.values()] == [
        (4, trunk.spec.channels[STAGES.index("body.2")]),
        (16, trunk.spec.channels[STAGES.index("head.1")]),
    ]
    assert len(trunk.head) == 2, "what lies beyond is pruned"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "backbone", "spec", "said"),
    [
        ("body", "resnet18", SMALL, "head=body: needs a FishNet as backbone .* or use head=fpn"),
        ("fish", "convnext_atto", SMALL, "head=fish: needs a FishNet as backbone"),
        ("fpn", "fishnet_nano", replace(SMALL, width=40), "decoder_channels=40: must be a multiple of 32"),
    ],
)
def test_refused(head: str, backbone: str, spec: SegmenterSpec, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        build(head, backbone, spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", OTHERS)
@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "mixer_s32_224"])
def test_a_trunk_without_a_pyramid_is_refused(head: str, backbone: str) -> None:
    with pytest.raises(InputError, match=r"no usable pyramid|no feature pyramid") as caught:
        Single.build(ModelSpec.single("segment", backbone, CLASSES, head=head, head_args=SMALL.to_dict()))
    assert "\n" not in str(caught.value)
    assert "choose another backbone" in str(caught.value)


@pytest.mark.parametrize("head", ["fish", *OTHERS])
def test_a_cut_fish_is_refused(head: str) -> None:
    with pytest.raises(InputError, match=r"no usable pyramid: (no features at|it ends with body\.2, before head\.0)"):
        build(head, end="body")


def test_a_fish_that_ends_with_its_body_has_a_body() -> None:
    assert scored(build("body", end="body"), images(1, (64, 64))).shape == (1, 3, 64, 64)


def test_unknown_head_args_are_refused() -> None:
    with pytest.raises(InputError, match=r"head_args.*widht"):
        SegmenterSpec.from_dict({"widht": 3})
