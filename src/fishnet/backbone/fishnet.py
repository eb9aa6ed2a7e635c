"""FishNet: tail, body and head over one frozen Spec.

Sun, Pang, Shi, Yi, Ouyang: "FishNet: A Versatile Backbone for Image, Region, and Pixel Level Prediction",
NeurIPS 2018, arXiv 1901.03495. Built from the paper and the facts of the released network, not from its code.

The stages are listed in ``spec.py``. Detectors and segmenters take the last map of the body and the three maps of the
head as their feature pyramid.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from timm.layers import calculate_drop_path_rates
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from fishnet.backbone.blocks import (
    Bridge,
    ConvNormAct,
    LayerFn,
    RefiningUnit,
    Score,
    Stage,
    resolve_act,
    resolve_norm,
    run_checkpointed,
)
from fishnet.backbone.spec import BRANCH, EDGE, LAST, STAGES, STRIDES, Spec
from fishnet.backbone.weights import check_name_hash, load_weights, rename_on_load
from fishnet.errors import InputError

__all__ = ["EDGE", "STAGES", "STRIDES", "FishNet", "Spec"]

_logger = logging.getLogger(__name__)
_EDGE = -1  # the index of EDGE, which is not a stage


class FishNet(nn.Module):
    """The network with its score layer, following timm's model contract.

    The input is (batch, in_chans, height, width) floats in any range (the published nets expect ImageNet-normalized
    images), of any size from 32 x 32 px. Sizes need not be multiples of 32: pooling rounds down, and the body resizes
    each map by nearest neighbour to the exact size of the branch it is concatenated with. For multiples of 32 this is
    the paper's plain doubling, bit for bit.

    Args:
        spec: the network's numbers.
        num_classes: outputs of the classifier; 0 builds no classifier.
        in_chans: channels of the input.
        global_pool: timm pooling name; ``""`` for no pooling (only without a classifier).
        drop_rate: dropout before the classifier, in [0, 1).
        drop_path_rate: stochastic depth of the last unit, in [0, 1); it rises linearly from 0 at the first unit.
        norm_layer, act_layer: timm layer names or classes; called as ``norm_layer(channels)`` and
            ``act_layer(inplace=True)``, or ``act_layer()`` where the class has no ``inplace`` argument.
        end: ``"head"`` builds the whole fish; ``"body"`` stops at the stride-4 map and does not build the fish's
            head, which is three quarters of the cost.

    Raises:
        ValueError: an unknown ``end``, norm or activation.
        InputError: in forward, an input smaller than 32 px, or in training a single image whose stride-32 map is one
            pixel, because batch statistics need more than one value.
    """

    def __init__(
        self,
        spec: Spec,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: str | LayerFn = "batchnorm2d",
        act_layer: str | LayerFn = "relu",
        end: Literal["body", "head"] = "head",
    ) -> None:
        super().__init__()
        if end not in LAST:
            raise ValueError(f"end={end!r}: choose from {', '.join(LAST)}")
        self.spec, self.end = spec, end
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        norm, act = resolve_norm(norm_layer), resolve_act(act_layer)
        self._build_trunk(spec, in_chans, norm, act, drop_path_rate)
        self.num_features = spec.channels[LAST[end]]
        score = Score(self.num_features, num_classes, norm, act, global_pool=global_pool, drop_rate=drop_rate)
        self.score: Score | nn.Identity = score
        self.head_hidden_size = score.hidden
        pyramid = range(LAST["body"], LAST[end] + 1)
        self.feature_info = [
            {"num_chs": spec.channels[i], "reduction": STRIDES[i], "module": STAGES[i]} for i in pyramid
        ]
        self._init_weights(spec.zero_init)
        self.register_load_state_dict_pre_hook(rename_on_load)  # type: ignore[no-untyped-call]

    def _build_trunk(self, spec: Spec, in_chans: int, norm: LayerFn, act: LayerFn, drop_path_rate: float) -> None:
        has_head = self.end == "head"
        depths = [*spec.tail_depths, spec.bridge_depth]
        depths += [a + b for a, b in zip(spec.body_depths, spec.body_transfers, strict=True)]
        if has_head:
            depths += [a + b for a, b in zip(spec.head_depths, spec.head_transfers, strict=True)]
        rates: Iterator[Any] = iter(calculate_drop_path_rates(drop_path_rate, sum(depths)))

        def units(
            depth: int, in_chans: int, width: int, stride: int, dilation: int = 1, reduce: bool = False
        ) -> Iterator[RefiningUnit]:
            inner, groups = spec.inner(width, stride)
            for i in range(depth):
                yield RefiningUnit(
                    in_chans if i == 0 else width, width, inner, norm, act,
                    dilation=dilation, groups=groups, reduce=reduce and i == 0, drop_path=next(rates),
                )  # fmt: skip

        c = spec.channels
        half = spec.stem // 2
        self.stem = nn.Sequential(
            ConvNormAct(in_chans, half, 2, norm, act),
            ConvNormAct(half, half, 1, norm, act),
            ConvNormAct(half, spec.stem, 1, norm, act),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.tail = nn.ModuleList(
            Stage(units(spec.tail_depths[i], c[i], c[i + 1], STRIDES[i]), None, up=False) for i in range(3)
        )
        self.bridge = Bridge(c[4], units(spec.bridge_depth, 2 * c[4], c[4], 32), norm, act)
        self.body = nn.ModuleList()
        for i in range(3):
            stage, branch = 5 + i, BRANCH[5 + i]
            refine = units(
                spec.body_depths[i], c[stage - 1], spec.body[i], STRIDES[stage - 1], spec.dilations[i], reduce=True
            )
            transfer = units(spec.body_transfers[i], c[branch], c[branch], STRIDES[branch])
            self.body.append(Stage(refine, transfer, up=True))
        self.head = nn.ModuleList()
        if has_head:
            for i in range(3):
                stage, branch = 8 + i, BRANCH[8 + i]
                refine = units(spec.head_depths[i], c[stage - 1], c[stage - 1], STRIDES[stage - 1])
                transfer = units(spec.head_transfers[i], c[branch], c[branch], STRIDES[branch])
                self.head.append(Stage(refine, transfer, up=False))

    def _init_weights(self, zero_init: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if zero_init:
            for module in self.modules():
                if isinstance(module, RefiningUnit):
                    nn.init.zeros_(module.conv3.weight)

    @property
    def stages(self) -> list[nn.Module]:
        """The built stages, in the order of ``STAGES``."""
        return [self.stem, *self.tail, self.bridge, *self.body, *self.head]

    @property
    def last_stage(self) -> str:
        """Name of the stage whose map is the score layer's input."""
        return STAGES[self._last]

    @property
    def _last(self) -> int:
        return LAST["body"] + len(self.head)

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise InputError(f"expected input of shape (batch, {self.in_chans}, height, width), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if height < 32 or width < 32:
            raise InputError(f"input of {height}x{width} px is too small: FishNet needs at least 32x32")
        norm = self.bridge.squeeze.norm
        if norm.training and isinstance(norm, nn.BatchNorm2d) and x.shape[0] == 1 and height <= 60 and width <= 60:
            raise InputError(
                f"training on one image of {height}x{width} px has no batch statistics at 1/32: "
                "use a batch of 2 or more, or more than 60 px"
            )

    def _run(self, x: Tensor, indices: Collection[int]) -> dict[int, Tensor]:
        """Runs the stages up to the highest of these indices. Returns the outputs of the stages with these indices."""
        self._check_input(x)
        last = max(0, *indices)
        branches: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}
        for i, stage in enumerate(self.stages[: last + 1]):
            inputs = (x, branches[BRANCH[i]]) if i in BRANCH else (x,)
            if i == 0 and _EDGE in indices:
                outputs[_EDGE] = self.stem[:-1](x)
                x = self.stem[-1](outputs[_EDGE])
            elif self.grad_checkpointing and self.training and i > 0 and torch.is_grad_enabled():
                x = run_checkpointed(stage, *inputs)
            else:
                x = stage(*inputs)
            if i in BRANCH.values():
                branches[i] = x
            if i in indices:
                outputs[i] = x
        return outputs

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: (batch, num_features, height // 32, width // 32), or at stride 4 with ``end="body"``."""
        last = self._last
        return self._run(x, (last,))[last]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """timm's "head", here the score layer: last map -> (batch, num_classes) logits.

        With ``pre_logits``, returns the pooled features before the classifier. Where the score layer was pruned,
        returns the map itself.
        """
        return self.score(x, pre_logits) if isinstance(self.score, Score) else x

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_chans, height, width) -> (batch, num_classes) logits."""
        return self.forward_head(self.forward_features(x))

    def forward_stages(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of stages by name (``STAGES``: stem, tail.0 ... head.2). Later stages are not computed.

        ``stem.2`` is the stem's map at stride 2, before its pooling: (batch, spec.stem, height / 2, width / 2), rounded
        up.

        Raises:
            ValueError: this network has no stage of that name.
        """
        known = (*STAGES[: self._last + 1], EDGE)
        for name in names:
            if name not in known:
                raise ValueError(f"no stage {name!r}: choose from {', '.join(known)}")
        indices = {name: _EDGE if name == EDGE else STAGES.index(name) for name in names}
        outputs = self._run(x, set(indices.values())) if names else {}
        return {name: outputs[indices[name]] for name in names}

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """timm's feature interface: indices 0..3 are the pyramid at strides 4, 8, 16, 32.

        Args:
            x: the input.
            indices: the maps to return; an int for the last n, None for all.
            norm: ignored, because the maps have no norm of their own.
            stop_early: compute nothing after the deepest map returned, which is then also the final map.
            output_fmt: only ``"NCHW"`` is supported.
            intermediates_only: leave out the final map, and compute nothing after the deepest map returned.

        Returns:
            The list of maps, or (final map, list of maps).
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: FishNet only returns NCHW maps")
        take, deepest = feature_take_indices(len(self.feature_info), _int_or_list(indices))
        first = LAST["body"]
        final = first + deepest if stop_early or intermediates_only else self._last
        outputs = self._run(x, {final, *(first + i for i in take)})
        maps = [outputs[first + i] for i in take]
        return maps if intermediates_only else (outputs[final], maps)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the stages after the deepest of these maps and, with ``prune_head``, the score layer.

        Returns:
            The absolute indices of the maps.
        """
        take, deepest = feature_take_indices(len(self.feature_info), _int_or_list(indices))
        del self.head[deepest:], self.feature_info[deepest + 1 :]
        self.num_features = self.spec.channels[LAST["body"] + deepest]
        if prune_head:
            self.score = nn.Identity()
            self.num_classes = 0
        return list(take)

    def load_pretrained(self, checkpoint_path: str) -> None:
        """timm's loader for published files: checks the hash in the name, adapts classes and channels, and logs it."""
        check_name_hash(checkpoint_path)
        for note in load_weights(self, checkpoint_path, adapt=True):
            _logger.warning("%s: %s", checkpoint_path, note)

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or an identity where there is no classifier."""
        return self.score.fc if isinstance(self.score, Score) else self.score

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one with ``num_classes`` outputs; 0 removes it.

        Raises:
            ValueError: a classifier without pooling, or a network whose score layer was pruned. The network stays
                unchanged.
        """
        if not isinstance(self.score, Score):
            raise ValueError("the score layer was pruned: there is no classifier to reset")
        self.score.reset(num_classes, global_pool)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades time for memory: the backward pass computes each stage after the stem again."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's parameter groups, shallow to deep, for layer-wise learning rates: by stage if coarse, else by unit."""
        units = {
            "tail": r"^tail\.(\d+)\.refine\.(\d+)",
            "bridge": r"^bridge",
            "body": r"^body\.(\d+)\.\w+\.(\d+)",
            "head": r"^head\.(\d+)\.\w+\.(\d+)",
        }
        stages = {"tail": r"^tail\.(\d+)", "bridge": r"^bridge", "body": r"^body\.(\d+)", "head": r"^head\.(\d+)"}
        return {"stem": r"^stem", **(stages if coarse else units)}


def _int_or_list(indices: int | Sequence[int] | None) -> int | list[int] | None:
    return indices if indices is None or isinstance(indices, int) else list(indices)
