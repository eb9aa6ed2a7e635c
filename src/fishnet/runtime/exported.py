"""The description inside an exported file: the bundle's config, and the graph's input and outputs. Torch-free.

The description is metadata of an ONNX model, runtime info of an OpenVINO model, or a text beside the program in a
``.pt2`` file.
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
KEY = "fishnet"  # key of the description in a file
SCHEMA = 2  # 1: the same under other keys, see _FIELDS
MIN_SIDE = 64  # px, of an input; less for classifiers of smaller images

RAW = {  # raw outputs of one-stage detectors by head; see fishnet.runtime.decode
    "retinanet": ("cls_logits", "bbox_regression"),
    "fcos": ("cls_logits", "bbox_regression", "bbox_ctrness"),
}
LOGITS = ("logits",)
BOXES, MASKS = ("boxes", "scores", "labels"), ("boxes", "scores", "labels", "masks")
_FIELDS = {"to": "format", "many": "dynamic_batch", "least": "min_side"}  # key of schema 1 -> field


@dataclass(frozen=True)
class Exported:
    """Description of an exported model, without its weights.

    The graph has one input, ``image``: (batch, channels, height, width) float32, normalized as in the bundle's
    preprocessing. Height and width are at least ``min_side``; except for classifiers they are multiples of 32.

    Attributes:
        bundle: the config of the exported bundle; its ``sha256`` is that of the bundle's weights.
        format: the file's format.
        precision: the precision of the weights, and for ``int8`` of the arithmetic.
        outputs: names, in order. ``logits``: (batch, classes) or (batch, classes, height, width). ``boxes`` (n, 4),
            ``scores`` (n,), ``labels`` (n,) and ``masks`` (n, m, m) of the batch's only image, as
            :class:`~fishnet.prediction.results.Detections` takes them. Other names are raw outputs of a one-stage
            detector, see :mod:`fishnet.runtime.decode`.
        dynamic_batch: whether the graph takes any number of images at once, or only one.
        size: the only height and width that the graph takes; None if it takes any.
        min_side: the smallest height and width that the graph takes, px.
        metrics: metrics of an ``int8`` model, in percent, before (``fp32``) and after (``int8``) quantisation.
    """

    bundle: Bundle
    format: Format
    precision: Precision = "fp32"
    outputs: tuple[str, ...] = LOGITS
    dynamic_batch: bool = True
    size: tuple[int, int] | None = None
    min_side: int = MIN_SIDE
    metrics: dict[str, dict[str, float]] | None = None

    def to_text(self) -> str:
        """JSON, for the file."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "format": self.format,
            "precision": self.precision,
            "outputs": list(self.outputs),
            "dynamic_batch": self.dynamic_batch,
            "size": None if self.size is None else list(self.size),
            "min_side": self.min_side,
            "metrics": self.metrics,
            "bundle": self.bundle.to_dict(),
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> "Exported":
        """The inverse of :meth:`to_text`.

        Raises:
            InputError: a damaged description, or a newer schema.
        """
        values = mapping(parse_json(text, "the file's description is damaged"), "the file's description")
        try:
            schema = integer(values.pop("schema"), "schema", 1, 2**31)
            if schema > SCHEMA:
                raise InputError(f"exported by a newer version (schema {schema}): upgrade fishnet-vision")
            size, outputs = values.pop("size"), values.pop("outputs")
            exported = cls(
                bundle=Bundle.from_dict(values.pop("bundle")),
                outputs=tuple(outputs),
                size=None if size is None else (size[0], size[1]),
                **{_FIELDS.get(key, key): value for key, value in values.items()},
            )
            exported._check()
            return exported
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the file's description is damaged ({type(error).__name__}: {error})") from error

    def _check(self) -> None:
        """Raises InputError for a value that no export writes, and for outputs that are not those of the task."""
        if self.format not in get_args(Format) or self.precision not in get_args(Precision):
            raise InputError(f"format={shown(self.format)}, precision={shown(self.precision)}: no export writes these")
        if not isinstance(self.dynamic_batch, bool):
            raise InputError(f"dynamic_batch={shown(self.dynamic_batch)}: must be true or false")
        integer(self.min_side, "min_side", 1, SIDE)
        for side in self.size or ():
            integer(side, "size", 1, SIDE)
        for when, values in mapping({} if self.metrics is None else self.metrics, "metrics").items():
            for name, value in mapping(values, f"metrics: {when}").items():
                real(value, f"metrics: {when}: {name}")
        if self.outputs not in outputs_of(self.bundle):
            raise InputError(
                f"the file's description names the outputs {shown(self.outputs)}, which {self.bundle.task} "
                f"({self.bundle.head}) does not have"
            )


def outputs_of(bundle: Bundle) -> tuple[tuple[str, ...], ...]:
    """The names of outputs that a file may have, by the bundle's task and head.

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
    """Whether a path has the suffix of an exported file."""
    return Path(path).suffix.lower() in SUFFIXES.values()


def format_of(path: str | Path) -> Format:
    """The format of a file, by its suffix.

    Raises:
        InputError: another suffix.
    """
    for name, suffix in SUFFIXES.items():
        if Path(path).suffix.lower() == suffix:
            return name
    raise InputError(f"{path}: is not an exported file: these end in {', '.join(SUFFIXES.values())}")


def refuse_untrusted(path: Path) -> NoReturn:
    """Refuses a .pt2 file without loading it and without torch.

    Raises:
        InputError: always: no such file, or a file that is not trusted.
    """
    open_regular(path, "exported file").close()
    raise InputError(
        f"{path}: refused: opening a .pt2 file can run any code that its author put into it (torch unpickles its "
        "tensors and evaluates its expressions): add trust=True (--trust) if you made it or trust who did; bundles, "
        ".onnx and .xml files need no trust"
    )
