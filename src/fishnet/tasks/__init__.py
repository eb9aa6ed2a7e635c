"""Task heads over any trunk: image level (classify), region level (detect, instances), pixel level (segment)."""

from importlib import import_module

from fishnet.errors import InputError, nearest
from fishnet.tasks.base import Task

TASKS = {
    "classify": "fishnet.tasks.image:Classify",
    "detect": "fishnet.tasks.region:Detect",
    "instances": "fishnet.tasks.region:Instances",
    "segment": "fishnet.tasks.pixel:Segment",
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: unknown; the nearest names are offered.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: {nearest(name, TASKS)}")
    module, attribute = TASKS[name].split(":")
    task: Task = getattr(import_module(module), attribute)()
    return task


__all__ = ["TASKS", "Task", "get_task"]
