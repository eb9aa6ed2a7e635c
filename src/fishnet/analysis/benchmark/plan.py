"""What is measured: the models, the engines, and the input that all of them are fed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle, is_bundle
from fishnet.bundle.classes import Classes
from fishnet.bundle.hub import is_remote, local_path
from fishnet.errors import InputError, nearest
from fishnet.images.preprocess import DIVISOR, Preprocess
from fishnet.tasks.info import task_info

if TYPE_CHECKING:
    from fishnet.tasks.model import Model

ENGINES = {
    "eager": "torch, the module as it is built",
    "channels_last": "torch, channels last in memory, as prediction runs it",
    "folded": "torch, channels last, batch norms folded into convolutions",
    "packed": "torch, the same, and weights in the order that the processor's library wants",
    "compile": "torch.compile, weights frozen in",
    "onnx": "the exported file, by onnxruntime",
    "openvino": "the exported file, by OpenVINO",
    "pytorchcv": "pytorchcv's network of the same name, as it is built",
}
EXPORTED = ("onnx", "openvino")
_ONE_STAGE = {"retinanet": 80, "fcos": 80}  # a second stage would pick among 80 boxes of a random score a proposal
_LEAST = 64  # px


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        models: names of networks, or bundles.
        engines: of :data:`ENGINES`.
        task: of the named networks; a bundle has its own.
        head: the task head of the named networks.
        size: px, side of the input; None for the task's (224, with objects or label maps 640), or a bundle's own.
        batch: images at once.
        threads: for every engine.
        rounds: that are counted: in each, every process takes one turn.
        warm_up: rounds before these, which are not.
        baseline: the engine whose first row the others are compared with; None for the first row.

    Raises:
        InputError: an unknown engine or task, or a number out of its range.
    """

    models: tuple[str, ...] = ("fishnet99",)
    engines: tuple[str, ...] = ("eager", "channels_last", "folded", "packed", "onnx")
    task: str | None = None
    head: str = "default"
    size: int | None = None
    batch: int = 1
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    rounds: int = 21
    warm_up: int = 3
    baseline: str | None = None

    def __post_init__(self) -> None:
        if not self.models or not self.engines:
            raise InputError("nothing to measure: name a model and an engine")
        for engine in (*self.engines, *([self.baseline] if self.baseline else [])):
            if engine not in ENGINES:
                raise InputError(f"unknown engine {engine!r}: {nearest(engine, ENGINES)}")
        if self.baseline and self.baseline not in self.engines:
            raise InputError(f"--baseline {self.baseline}: is none of the engines: {', '.join(self.engines)}")
        if self.task is not None:
            task_info(self.task)
        for name, least in (("batch", 1), ("threads", 1), ("rounds", 1), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {least} or more")
        if self.size is not None and self.size < _LEAST:
            raise InputError(f"--size {self.size}: must be {_LEAST} or more")

    def subjects(self) -> tuple["Subject", ...]:
        """The models, each once. Raises InputError, see :func:`subject`."""
        return tuple(subject(model, self) for model in dict.fromkeys(self.models))


@dataclass(frozen=True)
class Subject:
    """A model that is measured: everything that a process needs to build it and its input.

    Attributes:
        model: a network's name, or a bundle's folder.
        task: its level.
        head: its task head.
        height, width: px, of the input.
        channels: of the input.
        batch: images at once.
    """

    model: str
    task: str
    head: str
    height: int
    width: int
    channels: int
    batch: int

    @property
    def named(self) -> bool:
        """Whether it is a network's name, to be built with random weights."""
        return not is_bundle(self.model)

    def build(self) -> tuple[Bundle, "Model"]:
        """The model in evaluation mode, the same weights each time, and its config.

        A named detector gives its 100 best objects whatever their scores: random weights would find none, and its
        second stage would have nothing to do.
        """
        import torch

        from fishnet.tasks.store import build_from, load_model

        if not self.named:
            return load_model(self.model)
        torch.manual_seed(0)
        bundle = self._config()
        return bundle, build_from(bundle).eval()

    def _config(self) -> Bundle:
        from fishnet.backbone.registry import any_size_args, size_args

        info = task_info(self.task)
        return Bundle.single(
            self.task,
            self.model,
            Classes.of(map(str, range(info.benchmark_classes or _ONE_STAGE.get(self.head, 1)))),
            Preprocess((self.height, self.width), fit="whole" if info.any_size else "crop"),
            self.head,
            {"score_threshold": 0.0} if info.output == "objects" else {},
            backbone_args=any_size_args(self.model) if info.any_size else size_args(self.model, self.height),
        )

    def images(self) -> NDArray[np.float32]:
        """(batch, channels, height, width): normalized input with large and small patches as an image has them."""
        random = np.random.default_rng(0)
        images = np.zeros((self.batch, self.channels, self.height, self.width), np.float32)
        for side in (64, 16, 4, 1):  # px of a patch
            rows, columns = -(-self.height // side), -(-self.width // side)
            patches = random.standard_normal((self.batch, self.channels, rows, columns), np.float32)
            images += patches.repeat(side, 2).repeat(side, 3)[:, :, : self.height, : self.width] / 2
        return images


def subject(model: str, plan: Plan) -> Subject:
    """A named model of a plan.

    Raises:
        InputError: an unknown network or head, no such bundle, a bundle of another task, or a size that it cannot take.
        WorkError: a bundle on the hub that could not be fetched.
    """
    import torch

    from fishnet.tasks import get_task
    from fishnet.tasks.store import build_from

    path = local_path(model)
    if is_bundle(path) or path.is_dir() or is_remote(model):
        return _of_bundle(model, plan)
    task = get_task(plan.task or "classify")
    side = plan.size or task_info(task.name).benchmark_size
    it = Subject(model, task.name, task.resolve_head(plan.head), side, side, 3, plan.batch)
    _check_size(it)
    with torch.device("meta"):
        build_from(it._config())
    return it


def _of_bundle(model: str, plan: Plan) -> Subject:
    from fishnet.bundle.bundle import read_bundle

    path = local_path(model)
    bundle = read_bundle(path)
    if plan.task not in (None, bundle.task):
        raise InputError(f"{model}: is a bundle of {bundle.task}, not of {plan.task}: leave out --task")
    if plan.head not in ("default", bundle.head):
        raise InputError(f"{model}: is a bundle with the head {bundle.head}: leave out --head")
    info = task_info(bundle.task)
    own = (info.benchmark_size,) * 2 if info.any_size else bundle.preprocess.size
    height, width = (plan.size, plan.size) if plan.size else own
    it = Subject(str(path), bundle.task, bundle.head, height, width, bundle.preprocess.channels, plan.batch)
    _check_size(it)
    return it


def _check_size(it: Subject) -> None:
    if task_info(it.task).any_size and (it.height % DIVISOR or it.width % DIVISOR):
        raise InputError(f"--size {it.height}: {it.task} needs a multiple of {DIVISOR}")


def to_values(it: Subject) -> dict[str, Any]:
    """For a process's standard input."""
    return {name: getattr(it, name) for name in Subject.__dataclass_fields__}


def engines_of(text: str | Sequence[str]) -> tuple[str, ...]:
    """Engines named with commas between them, each once."""
    words = [text] if isinstance(text, str) else text
    return tuple(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))


def short(model: str, most: int = 32) -> str:
    """A model's name, of a long path its end."""
    return model if len(model) <= most else f"…{model[-most + 1 :]}"
