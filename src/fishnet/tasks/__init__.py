"""Tasks over any trunk: classify, detect, instances, segment. Importing this imports no torch."""

from typing import TYPE_CHECKING

from fishnet.tasks.info import resolve, task_info, task_names

if TYPE_CHECKING:
    from fishnet.tasks.base import Task

__all__ = ["get_task", "task_info", "task_names"]


def get_task(name: str) -> "Task":
    """The task of that name.

    Raises:
        InputError: unknown; the nearest names are offered.
    """
    task: Task = resolve(task_info(name).task)()
    return task
