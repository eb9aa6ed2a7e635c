"""timm's model contract, over every variant."""

from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.layers import DropPath, LayerNorm2d
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import fishnet.backbone  # noqa: F401  (registers the variants)
from fishnet.backbone import SPECS, STAGES, FishNet
from fishnet.weights import weight_names
from tests.backbone.helpers import MICRO, PUBLISHED, VARIANTS, computed, difference, drawn_state, image, net, on_meta

PYRAMID = (7, 8, 9, 10)  # stages of the feature pyramid


def meta(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def created_on_meta(name: str, **kwargs: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


@pytest.mark.parametrize("name", computed(VARIANTS))
class TestEveryVariant:
    def test_is_registered(self, name: str) -> None:
        assert timm.is_model(name)
        assert name in timm.list_models("fishne*", module="variants")

    def test_default_cfg_names_real_modules_and_the_published_preprocessing(self, name: str) -> None:
        model = created_on_meta(name)
        assert model.default_cfg is model.pretrained_cfg
        first = model.get_submodule(model.default_cfg["first_conv"])
        assert first is next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        assert model.get_submodule(model.default_cfg["classifier"]) is model.get_classifier()
        side, crop_pct = (64, 1.0) if name in weight_names() else (224, 0.875)  # those of the weights in the package
        assert resolve_data_config(model=model) == {
            "input_size": (3, side, side),
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "crop_pct": crop_pct,
            "crop_mode": "center",
        }
        pool_size = model.default_cfg["pool_size"]
        assert model.forward_features(meta(1, 3, side, side)).shape[2:] == pool_size

    def test_without_classes(self, name: str) -> None:
        model = created_on_meta(name, num_classes=0)
        assert isinstance(model.get_classifier(), nn.Identity)
        assert model(meta(2, 3, 64, 64)).shape == (2, model.head_hidden_size)
        unpooled = created_on_meta(name, num_classes=0, global_pool="")
        assert unpooled(meta(2, 3, 64, 96)).shape == (2, model.head_hidden_size, 2, 3)

    def test_reset_classifier(self, name: str) -> None:
        model, x = created_on_meta(name), meta(2, 3, 64, 96)
        hidden = model.head_hidden_size
        for classes, pool, shape in [
            (5, None, (2, 5)),
            (0, None, (2, hidden)),
            (0, "", (2, hidden, 2, 3)),
            (7, "catavgmax", (2, 7)),
            (3, None, (2, 3)),
        ]:
            model.reset_classifier(classes, pool)
            assert model(x).shape == shape
            assert model.num_classes == classes
        assert model.get_classifier().weight.device.type == "meta"

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        model = created_on_meta(name)
        model(meta(2, 3, 64, 64)).sum().backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []

    @pytest.mark.parametrize("size", [(64, 64), (224, 160), (75, 101)])
    def test_features_match_feature_info(self, name: str, size: tuple[int, int]) -> None:
        features = created_on_meta(name, features_only=True)
        maps = features(meta(2, 3, *size))
        info = features.feature_info
        assert info.reduction() == [4, 8, 16, 32]
        assert info.module_name() == ["body.2", "head.0", "head.1", "head.2"]
        assert [m.shape[1] for m in maps] == info.channels() == [SPECS[name].channels[i] for i in PYRAMID]
        ceil4 = [-(-side // 4) for side in size]
        for found, stride in zip(maps, info.reduction(), strict=True):
            assert list(found.shape[2:]) == [side // (stride // 4) for side in ceil4]

    def test_features_have_no_unused_parameter(self, name: str) -> None:
        features = created_on_meta(name, features_only=True)
        sum(m.sum() for m in features(meta(2, 3, 64, 64))).backward()
        assert [key for key, p in features.named_parameters() if p.grad is None] == []

    def test_layer_decay_follows_the_fish(self, name: str) -> None:
        """Learning rates never decrease from the stem to the score layer, which has the full one."""
        model = on_meta(name)
        groups = param_groups_layer_decay(model, layer_decay=0.8)
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        assert len(scale) == len(list(model.parameters()))
        for part in (model.bridge, model.stem, model.score):
            assert len({scale[id(p)] for p in part.parameters()}) == 1
        stages = [*model.stages, model.score]
        lows = [min(scale[id(p)] for p in stage.parameters()) for stage in stages]
        highs = [max(scale[id(p)] for p in stage.parameters()) for stage in stages]
        assert all(high < low for high, low in zip(highs, lows[1:], strict=False))
        assert highs[-1] == 1.0
        for stage in (*model.tail, *model.body, *model.head):  # inside a stage: unit by unit
            units = [scale[id(unit.conv1.weight)] for unit in stage.refine]
            assert units == sorted(set(units))

    def test_coarse_groups_are_the_stages(self, name: str) -> None:
        model = on_meta(name)
        groups = timm.models.group_parameters(model, model.group_matcher(coarse=True))
        names = ["stem", "tail.0", "tail.1", "tail.2", "bridge", *STAGES[5:], "score"]
        assert len(groups) == len(names)
        for i, prefix in enumerate(names):
            assert all(key.startswith(prefix) for key in groups[i]), prefix

    def test_checkpointing_changes_nothing(self, name: str) -> None:
        """Outputs, gradients and running statistics, with random layers at work."""
        plain = FishNet(SPECS[name], num_classes=10, drop_rate=0.2, drop_path_rate=0.2).train()
        plain.load_state_dict(drawn_state(plain))
        saving = FishNet(SPECS[name], num_classes=10, drop_rate=0.2, drop_path_rate=0.2).train()
        saving.load_state_dict(plain.state_dict())
        saving.set_grad_checkpointing()
        x = image(2, 3, 64, 64)
        outputs = []
        for model in (plain, saving):
            torch.manual_seed(1)
            outputs.append(model(x))
            outputs[-1].square().mean().backward()
        assert torch.equal(*outputs)
        for (key, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), key
        for (key, b), c in zip(plain.named_buffers(), saving.buffers(), strict=True):
            assert torch.equal(b, c), key
        assert plain.stem[0].norm.num_batches_tracked == plain.body[0].refine[0].norm1.num_batches_tracked == 1


@pytest.mark.parametrize("name", computed(PUBLISHED))
def test_published_pyramid(name: str) -> None:
    info = created_on_meta(name, features_only=True).feature_info
    assert list(zip(info.channels(), info.reduction(), strict=True)) == [(320, 4), (832, 8), (1600, 16), (2112, 32)]


class TestFeatures:
    @pytest.mark.parametrize("indices", [(0,), (3,), (0, 2), (1, 3), (-1,), (-4, -2), 2])
    @torch.no_grad()
    def test_out_indices_are_the_whole_net_s_maps(self, indices: Any) -> None:
        whole = net("fishnet_nano")
        features = timm.create_model("fishnet_nano", features_only=True, out_indices=indices).eval()
        own = features.model.state_dict()
        features.model.load_state_dict({key: value for key, value in whole.state_dict().items() if key in own})
        x = image(1, 3, 64, 75)
        absolute = [2, 3] if indices == 2 else [i % 4 for i in indices]
        wanted = whole.forward_stages(x, [STAGES[7 + i] for i in absolute])
        assert len(features.model.head) == max(absolute)  # nothing deeper is kept
        for found, expected in zip(features(x), wanted.values(), strict=True):
            assert torch.equal(found, expected)
        assert features.feature_info.channels() == [m.shape[1] for m in wanted.values()]

    def test_a_trunk_that_ends_with_the_body_gives_one_map(self) -> None:
        features = timm.create_model("fishnet_nano", features_only=True, end="body")
        assert features.feature_info.reduction() == [4]
        assert [tuple(m.shape[2:]) for m in features(image(2, 3, 64, 64))] == [(16, 16)]

    @torch.no_grad()
    def test_pruned_in_place(self) -> None:
        model = net(MICRO)
        assert model.prune_intermediate_layers([1]) == [1]
        x = image(1, 3, 64, 64)
        final, maps = model.forward_intermediates(x)
        assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
        assert final is maps[-1]
        assert final.shape[1] == model.num_features == MICRO.channels[8]
        assert torch.equal(model(x), model.forward_features(x))
        assert model.num_classes == 0
        assert isinstance(model.get_classifier(), nn.Identity)
        with pytest.raises(ValueError, match="the score layer was pruned"):
            model.reset_classifier(3)


class TestForwardIntermediates:
    @pytest.mark.parametrize(
        ("indices", "absolute"),
        [(None, [0, 1, 2, 3]), (2, [2, 3]), ([0, 3], [0, 3]), ((1,), [1]), ([-1], [3]), ([2, 0], [2, 0])],
    )
    @torch.no_grad()
    def test_indices(self, indices: Any, absolute: list[int]) -> None:
        model, x = net(MICRO), image(1, 3, 64, 64)
        final, maps = model.forward_intermediates(x, indices)
        stages = model.forward_stages(x, [STAGES[7 + i] for i in range(4)])
        wanted = [stages[STAGES[7 + i]] for i in absolute]
        assert torch.equal(final, model.forward_features(x))
        assert len(maps) == len(wanted)
        assert all(torch.equal(a, b) for a, b in zip(maps, wanted, strict=True))
        only = model.forward_intermediates(x, indices, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(only, wanted, strict=True))

    @pytest.mark.parametrize("how", ["stop_early", "intermediates_only"])
    @torch.no_grad()
    def test_nothing_is_computed_beyond_the_last_wanted_map(self, how: str) -> None:
        model, ran = net(MICRO), []
        for stage in model.head:
            stage.register_forward_hook(lambda module, _inputs, _output: ran.append(module))
        found = model.forward_intermediates(image(1, 3, 64, 64), [1], **{how: True})
        assert ran == [model.head[0]]
        if how == "stop_early":
            assert torch.equal(found[0], found[1][0])

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="output_fmt='NLC': FishNet only returns NCHW maps"):
            net(MICRO).forward_intermediates(image(1, 3, 64, 64), output_fmt="NLC")
        with pytest.raises(AssertionError, match="out of range"):
            net(MICRO).forward_intermediates(image(1, 3, 64, 64), [4])


class TestForwardStages:
    @torch.no_grad()
    def test_every_stage_by_name(self) -> None:
        model, seen = net(MICRO), []
        for stage in model.stages:
            stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        found = model.forward_stages(image(1, 3, 64, 64), STAGES)
        assert tuple(found) == STAGES
        assert all(a is b for a, b in zip(found.values(), seen, strict=True))

    @torch.no_grad()
    def test_order_and_cost_are_the_caller_s(self) -> None:
        model, ran = net(MICRO), []
        for stage in model.stages:
            stage.register_forward_hook(lambda module, _inputs, _output: ran.append(module))
        assert list(model.forward_stages(image(1, 3, 64, 64), ["tail.1", "stem"])) == ["tail.1", "stem"]
        assert len(ran) == 3
        assert model.forward_stages(image(1, 3, 64, 64), []) == {}
        assert len(ran) == 3

    @pytest.mark.parametrize("size", [(64, 64), (75, 101), (33, 32)])
    @torch.no_grad()
    def test_the_stems_map_at_stride_2(self, size: tuple[int, int]) -> None:
        """The stem's output before its pooling, alone or with other maps, which stay the same."""
        model, x = net(MICRO), image(2, 3, *size)
        alone = model.forward_stages(x, ["stem.2"])["stem.2"]
        assert alone.shape == (2, MICRO.stem, -(-size[0] // 2), -(-size[1] // 2))
        assert torch.equal(alone, model.stem[:-1](x))
        both = model.forward_stages(x, ["body.2", "stem.2", "stem"])
        assert list(both) == ["body.2", "stem.2", "stem"]
        assert torch.equal(both["stem.2"], alone)
        plain = model.forward_stages(x, ["stem", "body.2"])
        assert all(torch.equal(both[name], plain[name]) for name in plain)
        trunk = net(MICRO, end="body")
        assert torch.equal(trunk.forward_stages(x, ["stem.2"])["stem.2"], trunk.stem[:-1](x))

    def test_recomputed_stages_give_the_edges_gradient(self) -> None:
        gradients = []
        for recomputed in (False, True):
            model = net(MICRO).train()
            model.set_grad_checkpointing(recomputed)
            found = model.forward_stages(image(2, 3, 64, 64), ["stem.2", "body.2"])
            (found["stem.2"].square().mean() + found["body.2"].square().mean()).backward()
            gradients.append([p.grad for p in model.stem.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)
            assert one is not None
            assert one.any()

    def test_an_unknown_stage_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"no stage 'head.3': choose from stem, tail.0, .*, head.2, stem.2$"):
            net(MICRO).forward_stages(image(1, 3, 64, 64), ["head.3"])


class TestHead:
    @torch.no_grad()
    def test_forward_is_features_then_head(self) -> None:
        model, x = net(MICRO), image(2, 3, 64, 64)
        features = model.forward_features(x)
        assert features.shape == (2, model.num_features, 2, 2)
        assert torch.equal(model(x), model.forward_head(features))
        before = model.forward_head(features, pre_logits=True)
        assert before.shape == (2, model.head_hidden_size)
        assert torch.equal(model(x), model.get_classifier()(before))

    @pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax", "fast"])
    @torch.no_grad()
    def test_global_pool(self, pool: str) -> None:
        model, bare = net(MICRO, global_pool=pool), net(MICRO, global_pool="", num_classes=0)
        x = image(2, 3, 64, 64)
        unpooled = bare(x)
        mean, peak = unpooled.mean((2, 3)), unpooled.amax((2, 3))
        wanted = {"max": peak, "avgmax": (mean + peak) / 2, "catavgmax": torch.cat((mean, peak), 1)}.get(pool, mean)
        assert difference(model.forward_head(model.forward_features(x), pre_logits=True), wanted) < 1e-6
        assert model(x).shape == (2, 10)

    def test_classes_need_pooling(self) -> None:
        with pytest.raises(ValueError, match="a classifier needs pooled features"):
            FishNet(MICRO, global_pool="")
        model = net(MICRO)
        with pytest.raises(ValueError, match="a classifier needs pooled features"):
            model.reset_classifier(5, "")
        assert model.num_classes == 10  # nothing was changed
        assert model(image(1, 3, 64, 64)).shape == (1, 10)

    def test_a_new_classifier_keeps_the_precision(self) -> None:
        model = net(MICRO).double()
        model.reset_classifier(3)
        assert model(image(1, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64
        assert model.get_classifier().weight.abs().max() > 0

    def test_drop_rate(self) -> None:
        x = image(2, 3, 64, 64)
        model = net(MICRO, drop_rate=0.5)
        assert model.drop_rate == 0.5
        assert torch.equal(model(x), net(MICRO)(x))  # evaluation
        model.train()
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        assert 0.3 < (pooled == 0).float().mean() < 0.7  # off by five standard deviations at most
        assert not torch.equal(model(x), model(x))
        plain = net(MICRO).train()
        assert torch.equal(plain(x), plain(x))

    def test_drop_path_rate(self) -> None:
        x = image(2, 3, 64, 64)
        model = net("fishnet99", drop_path_rate=0.3)
        units = [m for m in model.modules() if hasattr(m, "conv3")]
        rates = [u.drop_path.drop_prob if isinstance(u.drop_path, DropPath) else 0.0 for u in units]
        assert rates == pytest.approx([0.3 * i / (len(units) - 1) for i in range(len(units))], abs=1e-6)
        small = net(MICRO, drop_path_rate=0.5)
        assert torch.equal(small(x), net(MICRO)(x))  # evaluation
        assert not torch.equal(small.train()(x), small(x))


ACTIVATIONS = ["gelu", "silu", "leaky_relu", "hard_swish", "mish", "prelu", nn.GELU, nn.ELU]
NORMS = [
    ("groupnorm1", timm.layers.GroupNorm1),
    ("groupnorm", timm.layers.GroupNorm),
    ("layernorm2d", LayerNorm2d),
    ("frozenbatchnorm2d", FrozenBatchNorm2d),
    (partial(nn.BatchNorm2d, eps=1e-3), nn.BatchNorm2d),
    (nn.InstanceNorm2d, nn.InstanceNorm2d),
]


class TestExchangeableLayers:
    @pytest.mark.parametrize("act", ACTIVATIONS)
    def test_activations(self, act: Any) -> None:
        """The activation is replaced everywhere; computing in place changes neither outputs nor gradients."""
        inplace, plain = net(MICRO, act_layer=act), net(MICRO, act_layer=act)
        assert not any(isinstance(m, nn.ReLU) for m in inplace.modules())
        for module in plain.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        x = image(2, 3, 64, 64)
        for model in (inplace, plain):
            model(x).square().mean().backward()
        assert torch.equal(inplace(x), plain(x))
        assert difference(inplace(x), net(MICRO)(x)) > 1e-4 if act != "prelu" else True
        # ELU's backward computes from its output in place and from its input otherwise: equal but for rounding.
        largest = max(p.grad.abs().max() for p in plain.parameters())
        for (key, p), q in zip(inplace.named_parameters(), plain.parameters(), strict=True):
            assert (p.grad - q.grad).abs().max() < 1e-5 * largest, key

    @pytest.mark.parametrize(("norm", "layer"), NORMS)
    def test_norms(self, norm: Any, layer: type[nn.Module]) -> None:
        model = FishNet(MICRO, num_classes=10, norm_layer=norm).train()
        norms = [m for key, m in model.named_modules() if key.rsplit(".", 1)[-1].startswith("norm")]
        assert {type(m) for m in norms} == {layer}
        assert not any(type(m) is nn.BatchNorm2d for m in model.modules()) or layer is nn.BatchNorm2d
        if isinstance(norm, partial):
            assert {m.eps for m in norms} == {1e-3}
        model(image(2, 3, 75, 64)).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize("name", computed(VARIANTS))
    def test_group_norm_fits_every_width(self, name: str) -> None:
        with torch.device("meta"):
            model = FishNet(SPECS[name], norm_layer="groupnorm")
        groups = [(m.num_channels, m.num_groups) for m in model.modules() if isinstance(m, nn.GroupNorm)]
        assert len(groups) > 40
        assert all(channels % count == 0 and count <= 32 for channels, count in groups)

    @torch.no_grad()
    def test_without_norms_a_unit_leaves_its_input_alone(self) -> None:
        model, x = FishNet(MICRO, norm_layer=nn.Identity), image(1, 16, 8, 8)
        before = x.clone()
        model.tail[0](x)
        assert torch.equal(x, before)

    @pytest.mark.parametrize("layer", ["norm_layer", "act_layer"])
    def test_an_unknown_name_is_refused(self, layer: str) -> None:
        with pytest.raises(ValueError, match=f"{layer}='bogus': not one of timm's "):
            FishNet(MICRO, **{layer: "bogus"})


class TestCheckpointing:
    def test_it_keeps_less(self) -> None:
        kept = []
        for enable in (False, True):
            model = net(MICRO).train()
            model.set_grad_checkpointing(enable)
            sizes: dict[int, int] = {}

            def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                model(image(2, 3, 64, 64))
            kept.append(sum(sizes.values()))
        assert kept[1] < 0.6 * kept[0]

    def test_frozen_norms_and_switching_off(self) -> None:
        plain, saving = net(MICRO), net(MICRO)
        saving.set_grad_checkpointing()
        x = image(2, 3, 64, 64)
        for model in (plain, saving):
            model.train()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            model(x).square().mean().backward()
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(plain.parameters(), saving.parameters(), strict=True))
        norms = [m for m in saving.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(m.track_running_stats and m.num_batches_tracked == 0 for m in norms)
        saving.set_grad_checkpointing(False)
        assert saving.grad_checkpointing is False
