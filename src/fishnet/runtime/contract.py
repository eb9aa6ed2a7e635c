"""Checks that an exported file's input and outputs agree with its description. Torch-free.

Anybody can write a description into a file. So the shapes of the file's real input and outputs are compared with it: as
far as they are known when the file is opened, and again at each run.
"""

from collections.abc import Mapping, Sequence

from fishnet.errors import InputError
from fishnet.runtime.exported import Exported
from fishnet.tasks.info import task_info

Dims = Sequence[int | None]
"""A shape; None for a side that is only known when the file runs."""


def check_input(path: str, exported: Exported, shapes: Sequence[Dims]) -> None:
    """Compares a file's inputs with its description.

    Args:
        path: the file, for messages.
        exported: the description.
        shapes: the shapes of the real inputs.

    Raises:
        InputError: not exactly one input of four sides, or another number of channels, images or px.
    """
    height, width = exported.size or (None, None)
    described: Dims = (None if exported.dynamic_batch else 1, exported.bundle.preprocess.channels, height, width)
    if len(shapes) != 1 or len(shapes[0]) != len(described):
        inputs = ", ".join(map(_words, shapes)) or "none"
        raise InputError(f"{path}: must take one input of {_words(described)}, but takes {inputs}: {_ADVICE}")
    free = (0,) * exported.dynamic_batch + ((2, 3) if exported.size is None else ())
    if not _agree(described, shapes[0]) or any(shapes[0][axis] is not None for axis in free):
        raise InputError(
            f"{path}: its description has an input of {_words(described)} (images, channels, height, width), but the "
            f"file takes {_words(shapes[0])}: {_ADVICE}"
        )


def check_outputs(path: str, exported: Exported, shapes: Mapping[str, Dims | None]) -> None:
    """Compares a file's outputs with its description.

    Args:
        path: the file, for messages.
        exported: the description.
        shapes: the shapes of the real outputs by name; None for an unknown shape.

    Raises:
        InputError: an output that is missing, or of another shape than the task and the number of classes require.
    """
    for name, described in _outputs(exported).items():
        if name not in shapes:
            raise InputError(f"{path}: its description has an output {name}, but the file does not: altered or damaged")
        shape = shapes[name]
        if shape is not None and not _agree(described, shape):
            raise InputError(
                f"{path}: is described as {exported.bundle.task} with {len(exported.bundle.classes)} classes, so "
                f"{name} must be {_words(described)}, but is {_words(shape)}: {_ADVICE}"
            )


_ADVICE = "altered, or not written by fishnet export; export the bundle again"


def _outputs(exported: Exported) -> dict[str, Dims]:
    """The shapes that each output must have."""
    classes = len(exported.bundle.classes)
    shapes: dict[str, Dims] = {
        "logits": (None, classes)
        if task_info(exported.bundle.task).output == "scores"
        else (None, classes, None, None),
        "boxes": (None, 4),
        "scores": (None,),
        "labels": (None,),
        "masks": (None, None, None),
        "cls_logits": (None, None, classes),
        "bbox_regression": (None, None, 4),
        "bbox_ctrness": (None, None, 1),
    }
    return {name: shapes[name] for name in exported.outputs}


def _agree(first: Dims, second: Dims) -> bool:
    return len(first) == len(second) and all(
        None in pair or pair[0] == pair[1] for pair in zip(first, second, strict=True)
    )


def _words(shape: Dims) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"
