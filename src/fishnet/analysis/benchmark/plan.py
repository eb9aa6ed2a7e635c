"""The settings of a benchmark: the models, the engines, and their common input."""

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
from fishnet.tasks.info import TaskInfo, task_info

if TYPE_CHECKING:
    from fishnet.tasks.model import Model

ENGINES = {
    "eager": "torch, the module as it is built",
    "channels_last": "torch, channels last in memory, as prediction runs it",
    "folded": "torch, channels last, batch norms folded into convolutions",
    "packed": "torch, the same as folded, with weights in oneDNN's own layout",
    "compile": "torch.compile, weights frozen in",
    "onnx": "the exported file, by onnxruntime",
    "openvino": "the exported file, by OpenVINO",
    "pytorchcv": "pytorchcv's network of the same name, as it is built",
}
EXPORTED = ("onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
_ONE_STAGE = {"retinanet": 80, "fcos": 80}  # with two stages, 80 random scores per proposal would go to NMS
_MIN_SIZE = 64  # px


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        models: names of networks, or bundles.
        engines: names from :data:`ENGINES`.
        task: the task of the named networks; a bundle has its own.
        head: the task head of the named networks.
        size: side of the input, px; None for 224 (detectors and segmenters: 640), or a bundle's own.
        batch: batch size.
        threads: number of threads of every engine.
        rounds: number of measured rounds; in each, every process takes one turn.
        warm_up: number of rounds before these, which are not measured.
        baseline: the engine whose first row the others are compared with; None for the first row.
        precisions: that each engine computes in, of :data:`PRECISIONS`. The weights are float32, except for ``int8``,
            which exported files compute in. These are calibrated on the input, which hardly changes their speed.

    Raises:
        InputError: an engine, precision or task is unknown, or a number out of range.
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
    precisions: tuple[str, ...] = ("fp32",)

    def __post_init__(self) -> None:
        if not self.models or not self.engines or not self.precisions:
            raise InputError("nothing to measure: give a model and an engine, and a precision")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise InputError(f"precision={precision!r}: {nearest(precision, PRECISIONS)}")
        for engine in (*self.engines, *([self.baseline] if self.baseline else [])):
            if engine not in ENGINES:
                raise InputError(f"unknown engine {engine!r}: {nearest(engine, ENGINES)}")
        if self.baseline and self.baseline not in self.engines:
            raise InputError(f"baseline={self.baseline}: must be one of the engines: {', '.join(self.engines)}")
        if self.task is not None:
            task_info(self.task)
        for name, minimum in (("batch", 1), ("threads", 1), ("rounds", 1), ("warm_up", 0)):
            if getattr(self, name) < minimum:
                raise InputError(f"{name}={getattr(self, name)}: must be {minimum} or more")
        if self.size is not None and self.size < _MIN_SIZE:
            raise InputError(f"size={self.size}: must be {_MIN_SIZE} or more")

    def subjects(self) -> tuple["Subject", ...]:
        """Returns the models, each once. Raises InputError, see :func:`make_subject`."""
        return tuple(make_subject(model, self) for model in dict.fromkeys(self.models))


@dataclass(frozen=True)
class Subject:
    """A model to measure: everything that a process needs to build it and its input.

    Attributes:
        model: a network's name, or a bundle's folder.
        task: its task; those of a bundle's heads, comma-separated, all of which one pass computes.
        head: its task head, or the bundle's in the same way.
        height, width: sides of the input, px.
        channels: number of input channels.
        batch: batch size.
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
        """Whether the model is a network given by name, which gets random weights."""
        return not is_bundle(self.model)

    def build(self) -> tuple[Bundle, "Model"]:
        """Returns the config and the model in evaluation mode, with the same weights each time.

        A named detector keeps its 100 best objects whatever their scores: with random weights it would detect nothing,
        and its second stage would have nothing to do.
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
        """Returns normalized input (batch, channels, height, width) with large and small patches, as in images."""
        random = np.random.default_rng(0)
        images = np.zeros((self.batch, self.channels, self.height, self.width), np.float32)
        for side in (64, 16, 4, 1):  # px of a patch
            rows, columns = -(-self.height // side), -(-self.width // side)
            patches = random.standard_normal((self.batch, self.channels, rows, columns), np.float32)
            images += patches.repeat(side, 2).repeat(side, 3)[:, :, : self.height, : self.width] / 2
        return images


def make_subject(model: str, plan: Plan) -> Subject:
    """Returns one model of a plan.

    Raises:
        InputError: the network, head or bundle is unknown, the bundle has another task, or the size does not fit.
        WorkError: a bundle could not be downloaded from the hub.
    """
    import torch

    from fishnet.tasks import get_task
    from fishnet.tasks.store import build_from

    path = local_path(model)
    if is_bundle(path) or path.is_dir() or is_remote(model):
        return _of_bundle(model, plan)
    task = get_task(plan.task or "classify")
    side = plan.size or task_info(task.name).benchmark_size
    subject = Subject(model, task.name, task.resolve_head(plan.head), side, side, 3, plan.batch)
    _check_size(subject, task_info(task.name))
    with torch.device("meta"):
        build_from(subject._config())
    return subject


def _of_bundle(model: str, plan: Plan) -> Subject:
    from fishnet.bundle.bundle import read_bundle

    path = local_path(model)
    bundle = read_bundle(path)
    tasks, heads = (", ".join(getattr(head, key) for head in bundle.heads.values()) for key in ("task", "head"))
    if plan.task not in (None, tasks):
        raise InputError(f"{model}: this bundle is for {tasks}, not {plan.task}: leave out task")
    if plan.head not in ("default", heads):
        several = "s" if len(bundle.heads) > 1 else ""
        raise InputError(f"{model}: is a bundle with the head{several} {heads}: leave out head")
    infos = [task_info(head.task) for head in bundle.heads.values()]
    sides = [info.benchmark_size for info in infos if info.any_size]
    height, width = (plan.size or max(sides),) * 2 if plan.size or sides else bundle.preprocess.size
    subject = Subject(str(path), tasks, heads, height, width, bundle.preprocess.channels, plan.batch)
    _check_size(subject, *infos)
    return subject


def _check_size(subject: Subject, *infos: TaskInfo) -> None:
    if any(info.any_size for info in infos) and (subject.height % DIVISOR or subject.width % DIVISOR):
        raise InputError(f"size={subject.height}: {subject.task} needs a multiple of {DIVISOR}")


def to_values(subject: Subject) -> dict[str, Any]:
    """Returns plain values for a process's standard input."""
    return {name: getattr(subject, name) for name in Subject.__dataclass_fields__}


def names_of(text: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names in comma-separated lists, each once."""
    texts = [text] if isinstance(text, str) else text
    return tuple(dict.fromkeys(name.strip() for names in texts for name in names.split(",") if name.strip()))


def label(engine: str, precision: str) -> str:
    """Returns an engine's name with the precision, unless that is float32."""
    return engine if precision == "fp32" else f"{engine} {precision}"
