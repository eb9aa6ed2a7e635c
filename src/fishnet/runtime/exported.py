"""The description inside an exported file: the bundle's config, and the graph's input and outputs. Torch-free.

The description is metadata of an ONNX model, runtime info of an OpenVINO model, or a text beside the program in a
``.pt2`` file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import open_regular
from fishnet.files.values import integer, mapping, real, shown
from fishnet.images.preprocess import SIDE
from fishnet.tasks.info import task_info

Format = Literal["onnx", "openvino", "pt2"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
KEY = "fishnet"  # key of the description in a file
SCHEMA = 2  # 1: the same under other keys, see _FIELDS
SEPARATOR = "/"  # between a head and its output
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
    preprocessing. Height and width are at least ``min_side``; unless all heads are classifiers they are multiples of
    32. A model with several heads has the outputs of each, named ``HEAD/NAME``: a head's name has no slash.

    Attributes:
        bundle: the config of the exported bundle; its ``sha256`` is that of the bundle's weights.
        format: the file's format.
        precision: the precision of the weights, and for ``int8`` of the arithmetic. With ``bf16`` the weights are
            float32, and the engine computes in bf16 where the CPU has it.
        outputs: names in the graph, in order; see :attr:`heads` for those of each head. ``logits``: (batch, classes) or
            (batch, classes, height, width). ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,) and ``masks`` (n, m, m)
            of the batch's only image, as :class:`~fishnet.prediction.results.Detections` takes them. With
            ``dynamic_batch`` these are (batch, rows, 4), (batch, rows) and (batch, rows), best first, and rows after an
            image's last object have a score of 0. Other names are raw outputs of a one-stage detector, see
            :mod:`fishnet.runtime.decode`.
        dynamic_batch: whether the graph takes any number of images at once, or only one.
        size: the only height and width that the graph takes; None if it takes any.
        min_side: the smallest height and width that the graph takes, px.
        metrics: metrics of an ``int8`` or ``bf16`` model, in percent, in ``fp32`` and in that precision.
    """

    bundle: Bundle
    format: Format
    precision: Precision = "fp32"
    outputs: tuple[str, ...] = LOGITS
    dynamic_batch: bool = True
    size: tuple[int, int] | None = None
    min_side: int = MIN_SIDE
    metrics: dict[str, dict[str, float]] | None = None

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """The outputs of each head by the head's name, without this name."""
        if len(self.bundle.heads) == 1:
            return dict.fromkeys(self.bundle.heads, self.outputs)
        heads: dict[str, list[str]] = {}
        for output in self.outputs:
            head, _, name = output.rpartition(SEPARATOR)
            heads.setdefault(head, []).append(name)
        return {head: tuple(names) for head, names in heads.items()}

    def graph_names(self, head: str) -> tuple[str, ...]:
        """The outputs of a head by their names in the graph."""
        prefix = f"{head}{SEPARATOR}" if len(self.bundle.heads) > 1 else ""
        return tuple(f"{prefix}{name}" for name in self.heads[head])

    @property
    def any_size(self) -> bool:
        """Whether images keep their proportions for one of the heads, so that inputs are multiples of 32 px."""
        return any(task_info(head.task).any_size for head in self.bundle.heads.values())

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
        self._check_outputs()

    def _check_outputs(self) -> None:
        """Raises InputError if the outputs are not those of the bundle's heads."""
        if not all(isinstance(output, str) for output in self.outputs):
            raise InputError(f"the file's description has outputs without a name: {shown(self.outputs)}")
        described = self.heads
        for name, config in self.bundle.heads.items():
            outputs = described.pop(name, ())
            if outputs not in outputs_of(config):
                raise InputError(
                    f"the file's description names the outputs {shown(outputs)}, which {label(self.bundle, name)}"
                    f"{config.task} ({config.head}) does not have"
                )
            if self.dynamic_batch and outputs not in (LOGITS, BOXES):
                raise InputError(
                    f"the file's description has a dynamic batch, which no export writes for {shown(outputs)}"
                )
        if described:
            raise InputError(
                f"the file's description has outputs of the heads {shown(tuple(described))}, but its bundle has "
                f"{', '.join(self.bundle.heads)}"
            )


def with_heads(heads: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names of outputs in a graph: as they are for a single head, else with the head's name before them.

    Args:
        heads: the names of each head's outputs by the head's name.
    """
    if len(heads) == 1:
        return next(iter(heads.values()))
    return tuple(f"{head}{SEPARATOR}{name}" for head, names in heads.items() for name in names)


def label(bundle: Bundle, head: str) -> str:
    """The start of a message on one head: its name, or nothing for a model's only head."""
    return f"{head}: " if len(bundle.heads) > 1 else ""


def outputs_of(config: HeadConfig) -> tuple[tuple[str, ...], ...]:
    """The names of outputs that a file may have for a head, by its task and kind.

    Raises:
        InputError: an unknown task.
    """
    info = task_info(config.task)
    if info.output != "objects":
        return (LOGITS,)
    if info.masks:
        return (MASKS,)
    return (BOXES, RAW[config.head]) if config.head in RAW else (BOXES,)


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
