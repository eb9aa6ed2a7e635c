"""The torch engine of a Predictor."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.runtime.precision import check_precision
from fishnet.tasks.info import task_info
from fishnet.tasks.model import Model
from fishnet.tasks.trunk import Features

_EMULATES = (
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
)  # limits of oneDNN at which it computes bf16 without instructions for it
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Runs a model: normalized float32 in, its heads' raw outputs as numpy out.

    The raw outputs of a model with several heads are a dict by head.

    Args:
        bundle: the model's config.
        model: float32.
        device: a torch device.
        precision: ``fp32``, ``bf16`` or ``fp16``, see :func:`pick_precision`. In 16 bits torch computes convolutions
            and products of matrices, and what lies between them has 16 bits too. Boxes are decoded, and label maps
            resized, in float32.
    """

    def __init__(self, bundle: Bundle, model: Model, device: str, precision: str = "fp32") -> None:
        self.bundle, self.device, self.precision = bundle, torch.device(device), precision
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.float32], only: Sequence[str] | None = None) -> Any:
        """(batch, channels, height, width), normalized -> the raw outputs, one item per image.

        Args:
            batch: the images.
            only: the heads to compute, if the model has several; by default all. The trunk runs in any case.

        Raises:
            NotFiniteError: a detector's maps or scores are not finite.
        """
        with self._mixed():
            return self._decode(self.model.features(self._images(batch)), only)

    @torch.inference_mode()
    def embed(self, batch: NDArray[np.float32], only: Sequence[str] | None = None) -> tuple[Any, NDArray[np.float32]]:
        """Returns the raw outputs and (batch, dims) embeddings, from one pass through the trunk.

        Args:
            batch: the images.
            only: the heads to compute, as in a call. The embeddings are those of the only classifier among them.

        Raises:
            InputError: the heads have no embeddings, or several of them are classifiers.
            NotFiniteError: as in a call.
        """
        head = self.model.heads[self._embedding_head(tuple(self.model.heads) if only is None else only)]
        with self._mixed():
            features = self.model.features(self._images(batch))
            return self._decode(features, only), to_numpy(head.embed(features))  # type: ignore[operator]

    def _mixed(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    def _decode(self, features: Features, only: Sequence[str] | None = None) -> Any:
        heads = self.model.heads
        outputs = {}
        for name in heads if only is None else only:
            try:
                with _checked_values(heads[name]):
                    outputs[name] = to_numpy(heads[name](features))
            except NotFiniteError:
                raise NotFiniteError(*([name] if len(heads) > 1 else [])) from None
        return outputs if len(heads) > 1 else next(iter(outputs.values()))

    def _embedding_head(self, names: Sequence[str]) -> str:
        """The name of the only head, or of the only classifier among several heads.

        Raises:
            InputError: there is no classifier, or several.
        """
        if len(names) == 1:
            return names[0]
        classifiers = [name for name in names if task_info(self.bundle.heads[name].task).output == "scores"]
        if len(classifiers) == 1:
            return classifiers[0]
        has = (
            f"several classifiers ({', '.join(classifiers)}): load only one of them" if classifiers else "no classifier"
        )
        raise InputError(f"only classifiers have embeddings, and this model has {has}")

    def _images(self, batch: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(batch).to(self.device).contiguous(memory_format=torch.channels_last)


@contextmanager
def _checked_values(head: nn.Module) -> Iterator[None]:
    """Checks a detector's inner values while it runs: torchvision silently drops boxes whose scores are NaN."""
    modules = [module for name, module in head.named_modules(prefix="head") if name.endswith(_CHECKED_MODULES)]
    hooks = [module.register_forward_hook(_check_finite) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_CHECKED_MODULES = (".fpn", ".rpn.head", ".net.head", "box_predictor")  # of a fishnet.tasks.detection.heads.Detector


def _check_finite(_module: Any, _inputs: Any, outputs: Any) -> None:
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    for value in outputs if isinstance(outputs, list | tuple) else [outputs]:
        if isinstance(value, list):
            _check_finite(None, None, value)
        elif value.numel() and not all(bool(end.isfinite()) for end in torch.aminmax(value)):
            raise NotFiniteError


def to_numpy(outputs: Any) -> Any:
    """Converts tensors in lists and dicts to numpy arrays; floating-point values become float32."""
    if isinstance(outputs, dict):
        return {name: to_numpy(value) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return [to_numpy(value) for value in outputs]
    return (outputs.float() if outputs.is_floating_point() else outputs).cpu().numpy()


def pick_device(name: str) -> str:
    """Checks a device's name; ``auto`` becomes the fastest available device.

    Raises:
        InputError: a device that this machine or this build of torch does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name, False):
        choices = ", ".join(device for device, is_available in available.items() if is_available)
        raise InputError(f"device {name!r} is not available here: choose from auto, {choices}")
    return name


def pick_precision(name: str, device: str) -> str:
    """``fp32``, ``bf16`` or ``fp16``: what is computed in if a precision is requested. ``auto`` is fp32.

    bf16 becomes fp32 where the device would only emulate it, which takes longer than fp32.

    Args:
        name: see :func:`fishnet.tasks.loading.load`.
        device: from :func:`pick_device`.

    Raises:
        InputError: an unknown precision, or fp16 on a CPU.
    """
    check_precision(name)
    if name == "fp16" and device == "cpu":
        raise InputError("precision=fp16: is for GPUs: choose bf16 or fp32 on the CPU")
    if name == "auto" or (name == "bf16" and not _has_bf16(device)):
        return "fp32"
    return name


def pick_training_precision(name: str, device: str) -> tuple[str, str | None]:
    """What a training computes in, and a line for the user unless that is what was requested, or fp32.

    ``auto`` is bf16 on CPUs with AMX and on CUDA devices that compute in it, else fp32. AVX-512 alone gains too little.

    Args:
        name: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        device: from :func:`pick_device`.
    """
    if name == "auto":
        if device != "mps" and _has_bf16(device) and (device != "cpu" or _has_amx()):
            return "bf16", "precision: bf16, mixed with fp32 (precision=fp32: only fp32, which takes longer here)"
        return "fp32", None
    if name == "bf16" and not _has_bf16(device):
        return name, "precision: bf16, which this machine only emulates: fp32 is faster here"
    return name, None


def _has_amx() -> bool:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return bool(torch.cpu._is_amx_tile_supported()) and (limit in ("", "ALL", "DEFAULT") or "AMX" in limit)


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported() or os.environ.get("ONEDNN_MAX_CPU_ISA", "") in _EMULATES:
        return False  # any AVX-512, or ARM's bf16, is supported
    is_x86 = torch.cpu._is_avx2_supported()
    return not is_x86 or bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
