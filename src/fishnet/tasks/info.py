"""The properties of each task that code without torch needs. Such code reads them here and compares no task names."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fishnet.errors import InputError, nearest

Level = Literal["classification", "detection", "segmentation"]
Output = Literal["scores", "objects", "label map"]


@dataclass(frozen=True)
class TaskInfo:
    """The torch-free properties of a task.

    Attributes:
        name: on the command line and in bundles.
        level: determines its data formats, recipe keys and flags.
        output: what the model predicts for an image: a score for each class, objects, or a class for every pixel.
        task: ``module:name`` of its :class:`~fishnet.tasks.base.Task`.
        result: ``module:name`` of the function that makes a result from an image's raw outputs, the classes, the
            placement and the options.
        options: names of the prediction options.
        hub_tag: the pipeline tag of model cards.
        masks: whether its objects have masks.
        any_size: whether images keep their proportions, so that inputs have any size in multiples of 32 px.
        hub_metrics: names of its metrics on the hub.
        benchmark_size: side of the input in benchmarks, px.
        benchmark_classes: number of classes of a benchmark's network with random weights; 0: as many as its head needs.
    """

    name: str
    level: Level
    output: Output
    task: str
    result: str
    options: tuple[str, ...]
    hub_tag: str
    masks: bool = False
    any_size: bool = True
    hub_metrics: tuple[str, ...] = ()
    benchmark_size: int = 640
    benchmark_classes: int = 0

    def make_result(self, *args: Any, **options: Any) -> Any:
        """Makes an image's result from its raw outputs; see :attr:`result`."""
        return resolve(self.result)(*args, **options)


_DETECTION_OPTIONS = ("threshold", "max_detections", "tile", "overlap")
_RESULTS = "fishnet.prediction.results"
_INFOS: dict[str, TaskInfo] = {}


def register(info: TaskInfo) -> TaskInfo:
    """Registers a task under its name.

    Raises:
        ValueError: another task has the name.
    """
    if _INFOS.setdefault(info.name, info) != info:
        raise ValueError(f"a task {info.name!r} is registered already: choose another name")
    return info


def task_info(name: str) -> TaskInfo:
    """The task of that name.

    Raises:
        InputError: an unknown task; the nearest names are offered.
    """
    if name not in _INFOS:
        raise InputError(f"unknown task {name!r}: {nearest(name, _INFOS)}")
    return _INFOS[name]


def task_names(levels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of all tasks, or of the tasks of some levels."""
    return tuple(name for name, info in _INFOS.items() if not levels or info.level in levels)


def resolve(place: str) -> Any:
    """Imports ``module:name`` or ``module:name.attribute``."""
    module, _, names = place.partition(":")
    value: Any = import_module(module)
    for name in names.split("."):
        value = getattr(value, name)
    return value


register(
    TaskInfo(
        name="classify",
        level="classification",
        output="scores",
        task="fishnet.tasks.classification.task:Classify",
        result=f"{_RESULTS}.classification:Classification.from_logits",
        options=("k",),
        hub_tag="image-classification",
        any_size=False,
        hub_metrics=("accuracy",),
        benchmark_size=224,
        benchmark_classes=1000,
    )
)
register(
    TaskInfo(
        name="detect",
        level="detection",
        output="objects",
        task="fishnet.tasks.detection.task:Detect",
        result=f"{_RESULTS}.detections:Detections.from_raw",
        options=_DETECTION_OPTIONS,
        hub_tag="object-detection",
    )
)
register(
    TaskInfo(
        name="instances",
        level="detection",
        output="objects",
        task="fishnet.tasks.detection.task:Instances",
        result=f"{_RESULTS}.detections:Detections.from_raw",
        options=_DETECTION_OPTIONS,
        hub_tag="image-segmentation",
        masks=True,
    )
)
register(
    TaskInfo(
        name="segment",
        level="segmentation",
        output="label map",
        task="fishnet.tasks.segmentation.task:Segment",
        result=f"{_RESULTS}.segmentation:Segmentation.from_logits",
        options=("tile", "overlap", "tta"),
        hub_tag="image-segmentation",
        benchmark_classes=21,
    )
)
