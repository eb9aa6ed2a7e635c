"""The variants' parameters, MACs, depths, widths and initial weights."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fishnet.backbone import SPECS, STRIDES, FishNet, Spec
from fishnet.backbone.blocks import RefiningUnit, reduce_channels
from tests.backbone.helpers import PUBLISHED, VARIANTS, computed, conv_macs, drawn_state, image, on_meta

ZERO_INIT = [name for name, spec in SPECS.items() if spec.zero_init]


def gmacs(model: FishNet) -> float:
    return conv_macs(model, lambda: model(torch.empty(1, model.in_chans, 224, 224, device="meta"))) / 1e9


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("fishnet99", 16_628_904, 4.264), ("fishnet150", 24_959_400, 6.398), ("fishnet201", 44_584_552, 10.514)],
)
def test_published_parameters_and_macs(name: str, parameters: int, macs: float) -> None:
    model = on_meta(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(gmacs(model), 3) == macs


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("fishnext150", 26_077_664, 6.525), ("fishnet_nano", 428_854, 0.119), ("fishnet_tiny", 1_294_416, 0.408),
     ("fishnet_small", 3_137_360, 1.246)],
)  # fmt: skip
def test_our_own_numbers_stay(name: str, parameters: int, macs: float) -> None:
    """Bundles keep a network's name and not its Spec, so its numbers must not change."""
    test_published_parameters_and_macs(name, parameters, macs)


def test_fishnext_has_the_published_parameters_within_a_percent() -> None:
    model = on_meta("fishnext150")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(26.2e6, rel=0.01)
    grouped = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(grouped) == 46  # the 3x3 of every unit
    assert [unit.conv2.in_channels // unit.conv2.groups for unit in first_units(model)] == [
        6, 12, 24, 48, 48, 24, 12, 6, 12, 24
    ]  # fmt: skip


def first_units(model: FishNet) -> list[RefiningUnit]:
    """The first trunk unit of the ten stages after the stem."""
    stages = [*model.tail, model.bridge, *model.body, *model.head]
    return [stage.refine[0] for stage in stages]


@pytest.mark.parametrize(("name", "macs"), [("fishnet_nano", 0.12), ("fishnet_tiny", 0.4), ("fishnet_small", 1.2)])
def test_small_nets_cost_about_what_they_should(name: str, macs: float) -> None:
    assert gmacs(on_meta(name)) == pytest.approx(macs, rel=0.15)


def test_a_spec_is_frozen_and_comparable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPECS["fishnet99"].stem = 32  # type: ignore[misc]
    assert SPECS["fishnet99"] == Spec()
    assert len(set(SPECS.values())) == len(SPECS)


def test_a_body_width_must_divide_its_input() -> None:
    with pytest.raises(ValueError, match=r"body\[1\]=500 must divide the stage's 768 input channels"):
        Spec(body=(512, 500, 256))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_widths(name: str) -> None:
    assert SPECS[name].channels == (64, 128, 256, 512, 512, 768, 512, 320, 832, 1600, 2112)
    assert SPECS[name].dilations == (1, 2, 4)


@pytest.mark.parametrize(
    ("name", "trunk", "transfers"),
    [
        ("fishnet99", [2, 2, 6, 2, 1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 1, 4]),
        ("fishnet150", [2, 4, 8, 4, 2, 2, 2, 2, 2, 4], [2, 2, 2, 2, 2, 4]),
        ("fishnet201", [3, 4, 12, 4, 2, 2, 2, 2, 3, 10], [2, 2, 2, 2, 2, 9]),
        ("fishnext150", [2, 4, 8, 4, 2, 2, 2, 2, 2, 4], [2, 2, 2, 2, 2, 4]),
    ],
)
def test_published_depths(name: str, trunk: list[int], transfers: list[int]) -> None:
    model = on_meta(name)
    assert [len(s.refine) for s in (*model.tail, model.bridge, *model.body, *model.head)] == trunk
    assert [len(s.transfer) for s in (*model.body, *model.head)] == transfers
    bottlenecks = sum(isinstance(m, RefiningUnit) for m in model.modules())
    assert name.endswith(str(3 * bottlenecks + 12))


@pytest.mark.parametrize("name", VARIANTS)
class TestStages:
    def test_only_the_body_s_trunk_is_dilated(self, name: str) -> None:
        model = on_meta(name)
        for stage, dilation in zip(model.body, SPECS[name].dilations, strict=True):
            assert {unit.conv2.dilation for unit in stage.refine} == {(dilation, dilation)}
        plain = [*model.tail, model.bridge, *model.head, *(stage.transfer for stage in model.body)]
        units = [unit for part in plain for unit in part.modules() if isinstance(unit, RefiningUnit)]
        assert {unit.conv2.dilation for unit in units} == {(1, 1)}

    def test_body_and_head_have_no_isolated_convolution(self, name: str) -> None:
        model = on_meta(name)
        for part in (*model.body, *model.head):
            units = [m for m in part.modules() if isinstance(m, RefiningUnit)]
            assert all(unit.shortcut is None for unit in units)
            inside = {conv for unit in units for conv in unit.modules() if isinstance(conv, nn.Conv2d)}
            assert inside == {conv for conv in part.modules() if isinstance(conv, nn.Conv2d)}

    def test_only_first_units_of_tail_and_bridge_widen(self, name: str) -> None:
        model = on_meta(name)
        widening = {key for key, m in model.named_modules() if isinstance(m, RefiningUnit) and m.shortcut is not None}
        widths = SPECS[name].channels[:4]
        tail = {f"tail.{i}.refine.0" for i in range(3) if widths[i] != widths[i + 1]}
        assert widening == {*tail, "bridge.refine.0"}

    def test_weights_start_as_published(self, name: str) -> None:
        """Convolutions normal with variance 2 / (k k out), norms 1 and 0."""
        model = FishNet(SPECS[name], num_classes=10)
        for key, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                assert (module.weight == 1).all()
                assert (module.bias == 0).all()
            if not isinstance(module, nn.Conv2d) or (SPECS[name].zero_init and key.endswith("conv3")):
                continue
            wanted = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            # The standard deviation of n normal draws is off by about 1 / sqrt(2 n), relatively: five times that.
            assert module.weight.std().item() == pytest.approx(wanted, rel=5 / (2 * module.weight.numel()) ** 0.5), key
            assert abs(module.weight.mean().item()) < 5 * wanted / module.weight.numel() ** 0.5, key


@pytest.mark.parametrize("k", [1, 2, 3])
def test_reduction_sums_consecutive_channels(k: int) -> None:
    x = image(2, 12, 3, 5)
    wanted = torch.stack([x[:, i : i + k].sum(1) for i in range(0, 12, k)], dim=1)
    torch.testing.assert_close(reduce_channels(x, k), wanted)
    assert not torch.allclose(wanted, x.unflatten(1, (k, 12 // k)).sum(1)) or k == 1  # channels apart would differ


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_reduction_and_its_gradient_keep_the_memory_format(k: int, layout: torch.memory_format) -> None:
    x = image(2, 8, 3, 5).contiguous(memory_format=layout).requires_grad_()
    y = reduce_channels(x, k)
    weights = image(*y.shape, seed=1)
    (gradient,) = torch.autograd.grad(y, x, weights.contiguous(memory_format=layout))
    assert y.is_contiguous(memory_format=layout)
    assert gradient.is_contiguous(memory_format=layout)
    assert torch.equal(gradient, weights.repeat_interleave(k, dim=1))
    assert torch.equal(y, reduce_channels(x.detach(), k))


def test_reduction_to_no_divisor_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot sum 12 channels to 5"):
        RefiningUnit(12, 5, 4, nn.BatchNorm2d, nn.ReLU, reduce=True)


class TestZeroInit:
    """Nets with ``zero_init`` start as their shortcuts: no unit adds anything before the first step."""

    def test_the_small_nets_have_it(self) -> None:
        assert {"fishnet_nano", "fishnet_tiny", "fishnet_small"} == set(ZERO_INIT)

    @pytest.mark.parametrize("name", ZERO_INIT)
    @pytest.mark.parametrize("training", [False, True])
    @torch.no_grad()
    def test_every_unit_is_its_shortcut(self, name: str, training: bool) -> None:
        model = FishNet(SPECS[name]).train(training)
        units = [m for m in model.modules() if isinstance(m, RefiningUnit)]
        for unit in units:
            x = image(2, unit.conv1.in_channels, 4, 6)
            shortcut = reduce_channels(x, unit.k) if unit.shortcut is None else unit.shortcut(x)
            assert torch.equal(unit(x), shortcut)
        assert len(units) >= 16

    @pytest.mark.parametrize("name", ZERO_INIT)
    @torch.no_grad()
    def test_body_and_head_only_move_and_sum_channels(self, name: str) -> None:
        model = FishNet(SPECS[name]).eval()
        names = ("stem", "tail.0", "tail.1", "bridge", "body.0", "body.1", "body.2", "head.0", "head.1", "head.2")
        out = model.forward_stages(image(1, 3, 64, 96), names)
        body = zip(("bridge", "body.0", "body.1"), ("tail.1", "tail.0", "stem"), names[4:7], model.body, strict=True)
        for before, branch, after, stage in body:
            up = F.interpolate(reduce_channels(out[before], stage.refine[0].k), scale_factor=2)
            assert torch.equal(out[after], torch.cat((up, out[branch]), 1))
        head = zip(("body.2", "head.0", "head.1"), ("body.1", "body.0", "bridge"), names[7:], strict=True)
        for before, branch, after in head:
            assert torch.equal(out[after], torch.cat((F.max_pool2d(out[before], 2), out[branch]), 1))

    def test_the_published_nets_start_with_every_unit_at_work(self) -> None:
        units = [m for m in FishNet(SPECS["fishnet99"]).modules() if isinstance(m, RefiningUnit)]
        assert all(unit.conv3.weight.abs().max() > 0 for unit in units)


class TestTrunkThatEndsWithTheBody:
    @pytest.mark.parametrize("name", computed(VARIANTS))
    @torch.no_grad()
    def test_it_is_the_whole_net_s_body(self, name: str) -> None:
        whole, trunk = FishNet(SPECS[name]).eval(), FishNet(SPECS[name], end="body").eval()
        state = drawn_state(whole)
        whole.load_state_dict(state)
        own = trunk.state_dict()
        trunk.load_state_dict({key: own[key] if key.startswith("score.") else state.get(key, own[key]) for key in own})
        x = image(1, 3, 75, 64)
        features = trunk.forward_features(x)
        assert torch.equal(features, whole.forward_stages(x, ["body.2"])["body.2"])
        assert features.shape[1] == trunk.num_features == SPECS[name].channels[7]
        assert trunk(x).shape == (1, 1000)

    @pytest.mark.parametrize("name", computed(VARIANTS))
    def test_the_fish_s_head_is_never_built(self, name: str) -> None:
        trunk = on_meta(name, end="body")
        assert not any(key.startswith("head.") for key in trunk.state_dict())
        assert [info["reduction"] for info in trunk.feature_info] == [STRIDES[7]] == [4]
        with pytest.raises(ValueError, match=r"no stage 'head.0': choose from stem, .*, body.2, stem.2$"):
            trunk.forward_stages(torch.empty(1, 3, 64, 64, device="meta"), ["head.0"])

    def test_fishnet150_costs_a_quarter(self) -> None:
        trunk, x = on_meta("fishnet150", end="body"), torch.empty(1, 3, 224, 224, device="meta")
        assert round(conv_macs(trunk, lambda: trunk.forward_features(x)) / 1e9, 1) == 1.6
        assert round(gmacs(on_meta("fishnet150")), 1) == 6.4

    def test_an_unknown_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="end='tail': choose from body, head"):
            FishNet(SPECS["fishnet_nano"], end="tail")  # type: ignore[arg-type]
