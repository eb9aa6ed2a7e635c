"""The registered FishNets: a table of Specs, and one short registered function per variant.

The published nets (Sun et al., NeurIPS 2018) have the widths and depths of the released networks. The numbers of
FishNeXt-150 were never released. Here it is FishNet-150 with half-width bottlenecks and 3x3 convolutions of 6, 12, 24
and 48 channels per group at strides 4, 8, 16 and 32, which gives 26.1 M parameters (paper: about 26.2 M).
fishnet_nano, fishnet_tiny and fishnet_small are this project's own, for CPUs and small data (benchmarks/small_nets.md).
The weights of fishnet150 are pytorchcv's (MIT). This project's own weights are in this package: docs/weights.md.
"""

from typing import Any
from urllib.error import URLError

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.spec import Spec
from fishnet.backbone.weights import checkpoint_filter_fn
from fishnet.errors import InputError, WorkError
from fishnet.weights import TAG, weights_folder

_DEPTHS_150: dict[str, Any] = {
    "tail_depths": (2, 4, 8),
    "bridge_depth": 4,
    "body_depths": (2, 2, 2),
    "body_transfers": (2, 2, 2),
    "head_depths": (2, 2, 4),
    "head_transfers": (2, 2, 4),
}

# The small nets have a narrow stem, one unit nearly everywhere, bottlenecks of half the width within narrow bounds
# (thin bottlenecks at high resolution lose information), no dilation (a 32 px image has 4 x 4 px at stride 8), and
# units that start as their shortcuts. benchmarks/small_nets.md measures the effect of each.
_SMALL: dict[str, Any] = {
    "bridge_depth": 1,
    "head_depths": (1, 1, 1),
    "head_transfers": (1, 1, 1),
    "reduction": 2,
    "dilations": (1, 1, 1),
    "zero_init": True,
}

SPECS = {
    "fishnet99": Spec(),
    "fishnet150": Spec(**_DEPTHS_150),
    "fishnet201": Spec(
        tail_depths=(3, 4, 12),
        bridge_depth=4,
        body_depths=(2, 2, 2),
        body_transfers=(2, 2, 2),
        head_depths=(2, 3, 10),
        head_transfers=(2, 2, 9),
    ),
    "fishnext150": Spec(**_DEPTHS_150, reduction=2, group_widths=(6, 12, 24, 48)),
    "fishnet_nano": Spec(
        tail=(24, 48, 96), body=(48, 48, 24), stem=16, tail_depths=(1, 1, 2), min_inner=16, max_inner=32, **_SMALL
    ),
    "fishnet_tiny": Spec(
        tail=(48, 96, 192), body=(96, 96, 48), stem=24, tail_depths=(1, 1, 2), min_inner=40, max_inner=56, **_SMALL
    ),
    "fishnet_small": Spec(
        tail=(64, 128, 256), body=(128, 128, 64), stem=48, tail_depths=(1, 2, 3), min_inner=64, max_inner=112, **_SMALL
    ),
}

# From pytorchcv's table of models (top-1 error 19.26 %). The name ends with the first eight digits of the SHA-1 of the
# file in the archive.
_PYTORCHCV_150 = "https://github.com/osmr/imgclsmob/releases/download/v0.0.502/fishnet150-0475-93e26daa.pth.zip"


def _cfg(**overrides: Any) -> dict[str, Any]:
    """The published preprocessing: shorter side to 256, centre crop 224, ImageNet statistics."""
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "min_input_size": (3, 32, 32),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.0.conv",
        "classifier": "score.fc",
        "paper_ids": "arXiv:1901.03495",
        "paper_name": "FishNet: A Versatile Backbone for Image, Region, and Pixel Level Prediction",
        **overrides,
    }


def _own_cfg(name: str) -> tuple[str, dict[str, Any]]:
    """Tag and configuration of a network of this project: with its weights in this package, if there are any."""
    folder = weights_folder(name)
    if folder is None:
        return name, _cfg()
    file = str(folder / "model.safetensors")
    tiny_imagenet = {"num_classes": 200, "input_size": (3, 64, 64), "pool_size": (2, 2), "crop_pct": 1.0}
    return f"{name}.{TAG}", _cfg(file=file, custom_load=True, license="other", **tiny_imagenet)


default_cfgs = generate_default_cfgs(
    {
        "fishnet99": _cfg(),
        "fishnet150.pytorchcv_in1k": _cfg(url=_PYTORCHCV_150, custom_load=True, license="mit"),
        "fishnet201": _cfg(),
        "fishnext150": _cfg(),
        **{tag: cfg for name in ("fishnet_nano", "fishnet_tiny", "fishnet_small") for tag, cfg in [_own_cfg(name)]},
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    overlay = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    if overlay.get("url") or overlay.get("file"):
        overlay.setdefault("custom_load", True)  # timm's own loader is not strict if the number of classes differs
    has_source = kwargs.get("pretrained_cfg") or any(overlay.get(k) for k in ("url", "file", "hf_hub_id", "state_dict"))
    if pretrained and not has_source and not default_cfgs[variant].default.has_weights:
        with_weights = [name for name, cfg in default_cfgs.items() if cfg.default.has_weights]
        raise InputError(
            f"no published weights for {variant}: use {', '.join(with_weights)} with pretrained=True, or load a file "
            "of docs/weights.md with checkpoint_path (in training: weights)"
        )
    if not pretrained:
        kwargs.setdefault("num_classes", 1000)  # as without weights in this package
    indices = (0,) if kwargs.get("end") == "body" else (0, 1, 2, 3)
    try:
        return build_model_with_cfg(
            FishNet,
            variant,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg={"out_indices": indices, "feature_cls": "getter"},
            pretrained_cfg_overlay=overlay,
            spec=SPECS[variant],
            **kwargs,
        )
    except URLError as error:
        url = overlay.get("url") or default_cfgs[variant].default.url
        raise WorkError(
            f"could not download {url} ({error.reason}): download it elsewhere and load it with checkpoint_path (in "
            "training: weights)"
        ) from error


@register_model
def fishnet99(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """FishNet-99: 16.6 M parameters, 4.26 GMACs at 224 px."""
    return _create("fishnet99", pretrained, **kwargs)


@register_model
def fishnet150(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """FishNet-150: 25.0 M parameters, 6.40 GMACs at 224 px."""
    return _create("fishnet150", pretrained, **kwargs)


@register_model
def fishnet201(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """FishNet-201: 44.6 M parameters, 10.51 GMACs at 224 px."""
    return _create("fishnet201", pretrained, **kwargs)


@register_model
def fishnext150(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """FishNeXt-150: grouped 3x3 convolutions, 26.1 M parameters, 6.52 GMACs at 224 px."""
    return _create("fishnext150", pretrained, **kwargs)


@register_model
def fishnet_nano(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """fishnet_nano: 0.43 M parameters, 0.119 GMACs at 224 px."""
    return _create("fishnet_nano", pretrained, **kwargs)


@register_model
def fishnet_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """fishnet_tiny: 1.29 M parameters, 0.408 GMACs at 224 px."""
    return _create("fishnet_tiny", pretrained, **kwargs)


@register_model
def fishnet_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """fishnet_small: 3.14 M parameters, 1.246 GMACs at 224 px."""
    return _create("fishnet_small", pretrained, **kwargs)
