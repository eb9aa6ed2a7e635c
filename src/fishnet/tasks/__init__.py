"""Task heads over any trunk: image level (classify), region level (detect, instances), pixel level (segment)."""

from importlib import import_module
from typing import TYPE_CHECKING

from fishnet.errors import InputError, nearest

if TYPE_CHECKING:
    from fishnet.tasks.base import Task

TASKS = {
    "classify": "fishnet.tasks.classification.task:Classify",
    "detect": "fishnet.tasks.detection.task:Detect",
    "instances": "fishnet.tasks.detection.task:Instances",
    "segment": "fishnet.tasks.segmentation.task:Segment",
}


def get_task(name: str) -> "Task":
    """The task of that name.

    Raises:
        InputError: unknown; the nearest names are offered.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: {nearest(name, TASKS)}")
    module, attribute = TASKS[name].split(":")
    task: Task = getattr(import_module(module), attribute)()
    return task


__all__ = ["TASKS", "get_task"]
