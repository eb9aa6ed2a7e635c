"""The tasks: classify, detect, instances, segment. Importing this package does not import torch."""

from typing import TYPE_CHECKING

from fishnet.tasks.info import resolve, task_info, task_names

if TYPE_CHECKING:
    from fishnet.tasks.base import Task

__all__ = ["get_task", "task_info", "task_names"]


def get_task(name: str) -> "Task":
    """The task of that name.

    Raises:
        InputError: an unknown task; the nearest names are offered.
    """
    task: Task = resolve(task_info(name).task)()
    return task
