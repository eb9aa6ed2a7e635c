"""Creating models by name: any FishNet, and any other timm model."""

from typing import Any

from torch import nn


def list_models(pattern: str = "fishne*") -> list[str]:
    """Names of the models that match a shell pattern: by default the FishNets, with ``*`` all of timm's models."""
    import timm

    import fishnet.backbone  # noqa: F401  (registers)

    return [str(name) for name in timm.list_models(pattern)]


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """``timm.create_model`` with the FishNets registered.

    Args:
        name: a model name, with or without a pretrained tag (``fishnet99``, ``resnet18.a1_in1k``).
        pretrained: load published weights.
        **kwargs: arguments of the model (``num_classes``, ``in_chans``, ``drop_path_rate`` ...) or of timm
            (``features_only``, ``out_indices``, ``checkpoint_path`` ...).

    Raises:
        InputError: an unknown name (the nearest ones are offered), or no published weights.
        WorkError: the published weights could not be downloaded.
    """
    import timm

    import fishnet.backbone  # noqa: F401  (registers)
    from fishnet.errors import InputError, WorkError, first_line, nearest

    if not timm.is_model(name) and not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        known = timm.list_models()
        raise InputError(f"unknown backbone {name!r}: {nearest(name, known) if _is_near(name, known) else _choices()}")
    try:
        return timm.create_model(name, pretrained=pretrained, **kwargs)
    except RuntimeError as error:
        if "pretrained tag" in str(error):
            raise InputError(f"{name}: {error}") from error
        raise
    except OSError as error:  # Hugging Face's library raises it when offline
        if not pretrained:
            raise
        raise WorkError(f"{name}: could not download its weights ({first_line(error)})") from error


def size_args(name: str, size: int) -> dict[str, Any]:
    """The arguments that build a network for square inputs of ``size`` px: none, unless its input size is fixed."""
    import timm

    import fishnet.backbone  # noqa: F401  (registers)

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return {"img_size": size} if config is not None and config.fixed_input_size else {}


def any_size_args(name: str) -> dict[str, Any]:
    """The arguments that build a network for inputs of any size: none, unless its input size is fixed by default.

    Raises:
        InputError: the network supports only one input size.
    """
    import timm
    import torch

    from fishnet.errors import InputError

    if not size_args(name, 0):
        return {}
    args: dict[str, Any] = {"strict_img_size": False}
    try:
        with torch.device("meta"):
            timm.create_model(name, **args)
    except TypeError:
        raise InputError(
            f"{name} supports only one image size: choose another backbone, e.g. fishnet99, resnet50, "
            "swin_tiny_patch4_window7_224"
        ) from None
    return args


def _is_near(name: str, known: list[str]) -> bool:
    import difflib

    return bool(difflib.get_close_matches(name, known, n=1))


def _choices() -> str:
    return f"choose from {', '.join(list_models())}, or from timm's (fishnet list '*')"
