"""The torch engine of a Predictor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.tasks.model import Model


class TorchEngine:
    """Runs a model with one head: normalized float32 in, the head's raw outputs as numpy out.

    Raises:
        InputError: a model with several heads.
    """

    def __init__(self, bundle: Bundle, model: Model, device: str) -> None:
        self.bundle, self.device = bundle, torch.device(device)
        self.head, _ = model.only_head
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.float32]) -> Any:
        """(batch, channels, height, width), normalized -> the task's raw outputs, one item per image.

        Raises:
            NotFiniteError: a detector's maps or scores are not finite.
        """
        with _checked_values(self.model):
            return to_numpy(self.model(self._images(batch))[self.head])

    @torch.inference_mode()
    def embed(self, batch: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        """Returns the task's raw outputs and (batch, dims) embeddings, from one pass through the trunk.

        Raises:
            InputError: the model has no embeddings.
        """
        features = self.model.features(self._images(batch))
        _, head = self.model.only_head
        return to_numpy(head.decode(features)), to_numpy(head.embed(features))

    def _images(self, batch: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(batch).to(self.device).contiguous(memory_format=torch.channels_last)


@contextmanager
def _checked_values(model: Model) -> Iterator[None]:
    """Checks a detector's inner values while it runs: torchvision silently drops boxes whose scores are NaN."""
    modules = [module for name, module in model.heads.named_modules() if name.endswith(_CHECKED_MODULES)]
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
