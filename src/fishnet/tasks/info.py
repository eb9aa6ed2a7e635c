"""What is known of each task where torch is not loaded: the only place that says what differs between tasks there."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fishnet.errors import InputError, nearest

Level = Literal["classification", "detection", "segmentation"]
Output = Literal["scores", "objects", "label map"]


@dataclass(frozen=True)
class TaskInfo:
    """A task, torch-free.

    Attributes:
        name: on the command line and in bundles.
        level: whose data, recipe keys and flags it has.
        output: what the model gives for an image: a score for each class, objects, or a class for every pixel.
        task: ``module:name`` of its :class:`~fishnet.tasks.base.Task`.
        result: ``module:name`` of what makes a result from an image's raw outputs, the classes, the placement and the
            options.
        options: that prediction takes.
        hub_tag: the pipeline tag of model cards.
        masks: whether its objects have masks.
        any_size: images keep their proportions, so that inputs are of any size in multiples of 32 px.
        hub_metrics: names of its metrics on the hub.
        benchmark_size: side of the input in benchmarks, px.
        benchmark_classes: of a network with random weights in benchmarks; 0: as many as its head needs.
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
        """An image's result from its raw outputs, see :attr:`result`."""
        return resolve(self.result)(*args, **options)


_OF_OBJECTS = ("threshold", "max_detections", "tile", "overlap")
_RESULTS = "fishnet.prediction.results"
_INFOS: dict[str, TaskInfo] = {}


def register(info: TaskInfo) -> TaskInfo:
    """Makes a task known under its name.

    Raises:
        ValueError: another task has the name.
    """
    if _INFOS.setdefault(info.name, info) != info:
        raise ValueError(f"there is a task {info.name!r} already")
    return info


def task_info(name: str) -> TaskInfo:
    """The task of that name.

    Raises:
        InputError: unknown; the nearest names are offered.
    """
    if name not in _INFOS:
        raise InputError(f"unknown task {name!r}: {nearest(name, _INFOS)}")
    return _INFOS[name]


def task_names(levels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of all tasks, or of those of some levels."""
    return tuple(name for name, info in _INFOS.items() if not levels or info.level in levels)


def resolve(place: str) -> Any:
    """What ``module:name`` or ``module:name.attribute`` names."""
    module, _, names = place.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


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
        options=_OF_OBJECTS,
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
        options=_OF_OBJECTS,
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
