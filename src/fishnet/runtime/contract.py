"""Checks that an exported file's input and outputs agree with its description. Torch-free.

Anybody can write a description into a file. So the shapes of the file's real input and outputs are compared with it: as
far as they are known when the file is opened, and again at each run.
"""

from collections.abc import Collection, Mapping, Sequence

from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError
from fishnet.runtime.exported import Exported, label
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


def check_outputs(
    path: str, exported: Exported, shapes: Mapping[str, Dims | None], heads: Collection[str] | None = None
) -> None:
    """Compares a file's outputs with its description, head by head.

    Args:
        path: the file, for messages.
        exported: the description.
        shapes: the shapes of the real outputs by their names in the graph; None for an unknown shape.
        heads: the names of the heads whose outputs these are; None for all.

    Raises:
        InputError: an output that is missing, or of another shape than the task and the number of classes require.
    """
    for head, names in exported.heads.items():
        if heads is not None and head not in heads:
            continue
        config = exported.bundle.heads[head]
        for output, name in zip(exported.graph_names(head), names, strict=True):
            if output not in shapes:
                raise InputError(
                    f"{path}: its description has an output {output}, but the file does not: altered or damaged"
                )
            described, shape = _dims(config, name, exported.dynamic_batch), shapes[output]
            if shape is not None and not _agree(described, shape):
                raise InputError(
                    f"{path}: {label(exported.bundle, head)}is described as {config.task} with {len(config.classes)} "
                    f"classes, so {output} must be {_words(described)}, but is {_words(shape)}: {_ADVICE}"
                )


_ADVICE = "altered, or not written by fishnet export; export the bundle again"


def _dims(config: HeadConfig, name: str, dynamic_batch: bool) -> Dims:
    """The shape that an output of a head must have. Objects have an axis for images if the graph takes several."""
    classes = len(config.classes)
    images: Dims = (None,) if dynamic_batch else ()
    shapes: dict[str, Dims] = {
        "logits": (None, classes) if task_info(config.task).output == "scores" else (None, classes, None, None),
        "boxes": (*images, None, 4),
        "scores": (*images, None),
        "labels": (*images, None),
        "masks": (None, None, None),
        "cls_logits": (None, None, classes),
        "bbox_regression": (None, None, 4),
        "bbox_ctrness": (None, None, 1),
    }
    return shapes[name]


def _agree(first: Dims, second: Dims) -> bool:
    return len(first) == len(second) and all(
        None in pair or pair[0] == pair[1] for pair in zip(first, second, strict=True)
    )


def _words(shape: Dims) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"
