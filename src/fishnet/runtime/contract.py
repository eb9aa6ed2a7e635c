"""Whether an exported file takes and gives what it says of itself. Torch-free.

The text in a file is only what somebody wrote there. Before a result is named by it, the shapes of the file's real
input and outputs are compared with it: when the file is opened as far as they are known then, and at each run.
"""

from collections.abc import Mapping, Sequence

from fishnet.errors import InputError
from fishnet.runtime.exported import Exported
from fishnet.tasks.info import task_info

Dims = Sequence[int | None]
"""A shape; None for a side that is known only when the file is run."""


def check_input(path: str, exported: Exported, shapes: Sequence[Dims]) -> None:
    """Compares a file's inputs with what it says of itself.

    Args:
        path: of the file, for messages.
        exported: what it says.
        shapes: of its real inputs.

    Raises:
        InputError: not one input of four sides, or another number of channels, images or pixels.
    """
    height, width = exported.size or (None, None)
    said: Dims = (None if exported.many else 1, exported.bundle.preprocess.channels, height, width)
    if len(shapes) != 1 or len(shapes[0]) != len(said):
        raise InputError(f"{path}: must take one input of {_words(said)}, and takes {_list(shapes)}: {_ADVICE}")
    free = (0,) * exported.many + ((2, 3) if exported.size is None else ())
    if not _agree(said, shapes[0]) or any(shapes[0][axis] is not None for axis in free):
        raise InputError(
            f"{path}: says that its input is {_words(said)} (images, channels, height, width), and takes "
            f"{_words(shapes[0])}: {_ADVICE}"
        )


def check_outputs(path: str, exported: Exported, shapes: Mapping[str, Dims | None]) -> None:
    """Compares a file's outputs with what it says of itself.

    Args:
        path: of the file, for messages.
        exported: what it says.
        shapes: of its real outputs by name; None for a shape of which nothing is known.

    Raises:
        InputError: an output that is missing, or of another shape than the task and the number of classes ask for.
    """
    for name, said in _outputs(exported).items():
        if name not in shapes:
            raise InputError(f"{path}: says that it gives {name}, and does not: altered or damaged")
        shape = shapes[name]
        if shape is not None and not _agree(said, shape):
            raise InputError(
                f"{path}: says that it does {exported.bundle.task} with {len(exported.bundle.classes)} classes, so "
                f"that {name} is {_words(said)}, and gives {_words(shape)}: {_ADVICE}"
            )


_ADVICE = "altered, or not written by fishnet export; export the bundle again"


def _outputs(exported: Exported) -> dict[str, Dims]:
    """The shapes that each output must have."""
    classes = len(exported.bundle.classes)
    kinds: dict[str, Dims] = {
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
    return {name: kinds[name] for name in exported.outputs}


def _agree(said: Dims, real: Dims) -> bool:
    return len(said) == len(real) and all(None in pair or pair[0] == pair[1] for pair in zip(said, real, strict=True))


def _words(shape: Dims) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def _list(shapes: Sequence[Dims]) -> str:
    return ", ".join(map(_words, shapes)) or "none"
