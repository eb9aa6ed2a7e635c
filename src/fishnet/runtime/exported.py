"""What an exported file says of itself: the bundle's config and what the graph takes and gives. Torch-free.

It travels inside the file: as metadata of an ONNX model, as runtime info of an OpenVINO one, beside the program in a
``.pt2``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import open_regular
from fishnet.files.values import integer, mapping, real, shown
from fishnet.images.preprocess import SIDE
from fishnet.tasks.info import task_info

Format = Literal["onnx", "openvino", "pt2"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
KEY = "fishnet"  # under which the text stands in a file
SCHEMA = 1
LEAST = 64  # px, the least side of an input, but for classifiers of smaller images

RAW = {  # a one-stage detector's raw outputs, by head; see fishnet.runtime.decode
    "retinanet": ("cls_logits", "bbox_regression"),
    "fcos": ("cls_logits", "bbox_regression", "bbox_ctrness"),
}
LOGITS = ("logits",)
BOXES, MASKS = ("boxes", "scores", "labels"), ("boxes", "scores", "labels", "masks")


@dataclass(frozen=True)
class Exported:
    """An exported model, without its weights.

    The graph has one input, ``image``: (batch, channels, height, width) float32, normalized as the bundle's
    preprocessing says. Heights and widths are any from ``least`` up for classifiers, multiples of 32 for all others.

    Attributes:
        bundle: the config of what was exported; its ``sha256`` is that of the bundle's weights.
        to: the format.
        precision: of the weights, and for ``int8`` of the arithmetic.
        outputs: names, in order. ``logits``: (batch, classes) or (batch, classes, height, width). ``boxes`` (n, 4),
            ``scores`` (n,), ``labels`` (n,) and ``masks`` (n, m, m) of the batch's one image, as
            :class:`~fishnet.prediction.results.Detections` takes them. Other names are a one-stage detector's raw ones,
            see :mod:`fishnet.runtime.decode`.
        many: whether it takes any number of images at once; else one.
        size: height and width where it takes only these; None for any.
        least: px, the least side.
        metrics: of an ``int8`` model, in percent, before (``fp32``) and after (``int8``).
    """

    bundle: Bundle
    to: Format
    precision: Precision = "fp32"
    outputs: tuple[str, ...] = LOGITS
    many: bool = True
    size: tuple[int, int] | None = None
    least: int = LEAST
    metrics: dict[str, dict[str, float]] | None = None

    def to_text(self) -> str:
        """JSON, for the file."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "to": self.to,
            "precision": self.precision,
            "outputs": list(self.outputs),
            "many": self.many,
            "size": None if self.size is None else list(self.size),
            "least": self.least,
            "metrics": self.metrics,
            "bundle": self.bundle.to_dict(),
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> "Exported":
        """The inverse of :meth:`to_text`.

        Raises:
            InputError: no such text, or a newer schema.
        """
        values = mapping(parse_json(text, "what the file says of itself is damaged"), "what the file says of itself")
        try:
            schema = integer(values.pop("schema"), "schema", 1, 2**31)
            if schema > SCHEMA:
                raise InputError(f"exported by a newer version (schema {schema}): upgrade fishnet-vision")
            size, outputs = values.pop("size"), values.pop("outputs")
            exported = cls(
                bundle=Bundle.from_dict(values.pop("bundle")),
                outputs=tuple(outputs),
                size=None if size is None else (size[0], size[1]),
                **values,
            )
            exported._check()
            return exported
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"what the file says of itself is damaged ({type(error).__name__}: {error})") from error

    def _check(self) -> None:
        """Raises InputError for values that no export has, and for outputs that are not those of the task."""
        if self.to not in get_args(Format) or self.precision not in get_args(Precision):
            raise InputError(f"to={shown(self.to)}, precision={shown(self.precision)}: not what an export writes")
        if not isinstance(self.many, bool):
            raise InputError(f"many={shown(self.many)}: must be true or false")
        integer(self.least, "least", 1, SIDE)
        for side in self.size or ():
            integer(side, "size", 1, SIDE)
        for when, values in mapping({} if self.metrics is None else self.metrics, "metrics").items():
            for name, value in mapping(values, f"metrics: {when}").items():
                real(value, f"metrics: {when}: {name}")
        if self.outputs not in outputs_of(self.bundle):
            raise InputError(
                f"says that it does {self.bundle.task} ({self.bundle.head}) and gives {shown(self.outputs)}: these are "
                "not the outputs of that task"
            )


def outputs_of(bundle: Bundle) -> tuple[tuple[str, ...], ...]:
    """Names of the outputs that a file of a task and head may have.

    Raises:
        InputError: an unknown task.
    """
    info = task_info(bundle.task)
    if info.output != "objects":
        return (LOGITS,)
    if info.masks:
        return (MASKS,)
    return (BOXES, RAW[bundle.head]) if bundle.head in RAW else (BOXES,)


def is_exported(path: str | Path) -> bool:
    """Whether a path is named like an exported file."""
    return Path(path).suffix.lower() in SUFFIXES.values()


def format_of(path: str | Path) -> Format:
    """The format that a file's name says.

    Raises:
        InputError: another ending.
    """
    for form in get_args(Format):
        if Path(path).suffix.lower() == SUFFIXES[form]:
            return form  # type: ignore[no-any-return]
    raise InputError(f"{path}: no exported file: these end in {', '.join(SUFFIXES.values())}")


def refuse_untrusted(path: Path) -> NoReturn:
    """Refuses a .pt2 file, without opening it and without torch.

    Raises:
        InputError: always; no such file, or one that is not trusted.
    """
    open_regular(path, "exported file").close()
    raise InputError(
        f"{path}: refused: opening a .pt2 file can run any code that its author put into it (torch unpickles its "
        "tensors and evaluates its expressions): add --trust (trust=True) if you made it or trust who did; a bundle, "
        "an .onnx or an .xml needs no trust"
    )
