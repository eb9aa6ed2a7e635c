"""Bundles: a trained model as a folder of ``model.safetensors`` and ``config.json``. Torch-free."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fishnet.bundle.classes import Classes
from fishnet.bundle.renamed import with_current_keys
from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import MIB, is_regular, open_regular, read_bytes
from fishnet.files.tensors import read_header
from fishnet.files.values import integer, mapping, plain, real, shown, text
from fishnet.images.preprocess import Preprocess

# 1: classifiers; 2: images may be taken whole (preprocess.fit), or stretched from 16 bits (sixteen_bit);
# 3: or in their own size (fit "native"), for label maps; 4: heads by name, in the config and in the weights' names
SCHEMA = 4
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_TEXTS = ("backbone", "sha256")
_OBJECTS = ("preprocess", "backbone_args", "metrics", "recipe", "data", "versions")
_OF_HEAD = ("task", "head", "head_args", "classes", "thresholds")  # of the only head, up to schema 3
_HEADS = 64  # of one model
_HEAD_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CONFIG_LIMIT = 64 * MIB
_LARGEST = 100_000  # of the numbers that a network is built with: what a recipe can ask for
_ARGUMENTS = 1_000  # of these numbers
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOADING = ("checkpoint_path", "cache_dir", "features_only", "exportable", "scriptable", "no_jit")


T = TypeVar("T")


def only(heads: Mapping[str, T]) -> tuple[str, T]:
    """The name and the head of a model with one. Raises InputError for a model with several."""
    if len(heads) > 1:
        raise InputError(f"this model has several heads ({', '.join(heads)}), and this takes a model with one")
    return next(iter(heads.items()))


@dataclass(frozen=True)
class HeadConfig:
    """One head of a model.

    Attributes:
        task: ``classify`` ...
        classes: names and original ids, in the order of the outputs.
        head: which of the task's heads; ``default`` for its first.
        head_args: the head's keyword arguments.
        thresholds: scores below which the task's results are dropped, 0..1.
    """

    task: str
    classes: Classes
    head: str = "default"
    head_args: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "task": self.task,
            "head": self.head,
            "head_args": self.head_args,
            "classes": self.classes.to_list(),
            "thresholds": self.thresholds,
        }

    @classmethod
    def from_dict(cls, values: Any, name: str) -> "HeadConfig":
        """The inverse of :meth:`to_dict`. Raises InputError for values that no head can have; ``name`` says where."""
        where = f"heads: {name}"
        values = dict(mapping(values, where))
        for key in ("task", "head"):
            text(values.get(key, ""), f"{where}: {key}", 1000)
        mapping(values.get("thresholds", {}), f"{where}: thresholds")
        for key, value in values.get("thresholds", {}).items():
            real(value, f"{where}: thresholds: {key}", 0, 1)
        values["head_args"] = with_current_keys(mapping(values.get("head_args", {}), "head_args"), "head_args")
        plain(values["head_args"], "head_args", _LARGEST, _ARGUMENTS)
        _check_head(values["head_args"])
        values["classes"] = _classes(values["classes"])
        return cls(**values)


@dataclass(frozen=True)
class Bundle:
    """Everything that is needed to use a trained model, and how it came about.

    Attributes:
        backbone: a timm model name.
        heads: by name; the name of a task's only head is the task's.
        preprocess: how images become input.
        backbone_args: the backbone's keyword arguments.
        metrics: measured on the validation set, in percent.
        recipe: the training's settings.
        data: what the training's data is recognised by; see :func:`fishnet.data.classification.open.marks`.
        versions: of the packages that wrote it.
        sha256: of the weights file; checked when it is read.
    """

    backbone: str
    heads: dict[str, HeadConfig]
    preprocess: Preprocess
    backbone_args: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""

    @classmethod
    def single(
        cls,
        task: str,
        backbone: str,
        classes: Classes,
        preprocess: Preprocess,
        head: str = "default",
        head_args: dict[str, Any] | None = None,
        thresholds: dict[str, float] | None = None,
        **more: Any,
    ) -> "Bundle":
        """A bundle of one head, named as its task; see :class:`HeadConfig` and the class for the arguments."""
        config = HeadConfig(task, classes, head, head_args or {}, thresholds or {})
        return cls(backbone, {task: config}, preprocess, **more)

    @property
    def only_head(self) -> HeadConfig:
        """Of a model with one head.

        Raises:
            InputError: a model with several.
        """
        return only(self.heads)[1]

    @property
    def task(self) -> str:
        """Of the only head."""
        return self.only_head.task

    @property
    def head(self) -> str:
        """Which of its task's heads the only head is."""
        return self.only_head.head

    @property
    def head_args(self) -> dict[str, Any]:
        """Of the only head."""
        return self.only_head.head_args

    @property
    def classes(self) -> Classes:
        """Of the only head."""
        return self.only_head.classes

    @property
    def thresholds(self) -> dict[str, float]:
        """Of the only head."""
        return self.only_head.thresholds

    def to_dict(self) -> dict[str, Any]:
        """``config.json``'s content."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        values["heads"] = {name: head.to_dict() for name, head in self.heads.items()}
        values["preprocess"] = self.preprocess.to_dict()
        return {"schema": SCHEMA, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Bundle":
        """The inverse of :meth:`to_dict`, for every schema up to the current one.

        Raises:
            InputError: a newer schema, or a key missing or unknown.
        """
        if not isinstance(values, dict):
            raise InputError("not a bundle config (not an object)")
        values = dict(values)
        schema = values.pop("schema", None)
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise InputError(f"schema {shown(schema)} is no bundle schema")
        if schema > SCHEMA:
            raise InputError(f"schema {shown(schema)} is newer than this version's {SCHEMA}: upgrade fishnet-vision")
        try:
            if schema < 4:
                if "heads" in values:
                    raise InputError(f"heads: a bundle of schema {schema} has none")
                head = {key: values.pop(key) for key in _OF_HEAD if key in values}
                values["heads"] = {text(head["task"], "task", 1000): head}
            _check_values(values)
            if "recipe" in values:
                values["recipe"] = with_current_keys(values["recipe"], "recipe")
            if "images" not in (data := values.get("data", {})) and "images" in data:
                values["data"] = {"images" if name == "images" else name: value for name, value in data.items()}
            check_backbone(values["backbone"], values.get("backbone_args", {}))
            values["heads"] = {name: HeadConfig.from_dict(head, name) for name, head in values["heads"].items()}
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise InputError(f"not a valid bundle config ({error})") from None
            raise InputError(f"not a valid bundle config ({type(error).__name__}: {error})") from error


def _check_values(values: dict[str, Any]) -> None:
    """Raises InputError for a value of the wrong type, a number that is none, or one out of any bounds."""
    for name in _TEXTS:
        text(values.get(name, ""), name, 1000)
    for name in _OBJECTS:
        mapping(values.get(name, {}), name)
    plain(values.get("backbone_args", {}), "backbone_args", _LARGEST, _ARGUMENTS)
    heads = mapping(values["heads"], "heads")
    if not 1 <= len(heads) <= _HEADS:
        raise InputError(f"heads: {len(heads):,} heads: must be from 1 to {_HEADS}")
    for name in heads:
        if not _HEAD_NAME.fullmatch(name):
            raise InputError(f"heads: {shown(name)} is no name of a head: lower-case letters, digits, - and _")
    for name in ("preprocess", "recipe"):
        plain(values.get(name, {}), name)
    for name, value in values.get("metrics", {}).items():
        real(value, f"metrics: {name}")
    for kind in ("data", "versions"):
        for name, value in values.get(kind, {}).items():
            text(value, f"{kind}: {name}")


_WHOLE = {
    "width": 4096, "mask_width": 4096, "box_width": 16384, "box_convs": 16, "proposals": 100_000,
    "roi_samples": 100_000, "max_detections": 100_000,
}  # fmt: skip  # numbers of heads and the most that each may be
_SHARES = ("nms_iou", "score_threshold", "drop_rate")
_LEVELS, _SHAPES = 5, 32  # of anchors


def _check_head(args: dict[str, Any]) -> None:
    """Raises InputError for numbers that no head can have; which keys a head knows is its own business."""
    for name, most in _WHOLE.items():
        if name in args:
            integer(args[name], f"head_args: {name}", 0 if name == "box_convs" else 1, most)
    for name in _SHARES:
        if name in args:
            real(args[name], f"head_args: {name}", 0, 1)
    if args.get("anchors") is not None:
        anchors = mapping(args["anchors"], "head_args: anchors")
        sizes: Any = anchors.get("sizes")
        ratios: Any = anchors.get("ratios")
        if not isinstance(sizes, list | tuple) or not all(isinstance(row, list | tuple) for row in (*sizes, ratios)):
            raise InputError(f"head_args: anchors: must hold lists of sizes and ratios, not {shown(anchors)}")
        if len(sizes) != _LEVELS or len(set(map(len, sizes))) > 1:
            raise InputError(f"head_args: anchors: must have as many sizes on each of {_LEVELS} levels")
        for row in (*sizes, ratios):
            if not 1 <= len(row) <= _SHAPES:
                raise InputError(f"head_args: anchors: {len(row):,} sizes or ratios: must be from 1 to {_SHAPES}")
            for value in row:
                real(value, "head_args: anchors", 1e-3, 1e5)


def check_backbone(name: str, args: Mapping[str, Any]) -> None:
    """Refuses a backbone that is not simply a registered network: one of a hub or a folder, or with other weights.

    Raises:
        InputError: such a name or such an argument.
    """
    if not _NETWORK.fullmatch(name):
        raise InputError(
            f"backbone {shown(name)}: a bundle names a registered network, never a place to load it from: see "
            "fishnet list '*'; --weights takes a file"
        )
    for key in args:
        if key in _LOADING or key.startswith("pretrained"):
            raise InputError(f"backbone_args: {key} does not belong in a bundle: its weights are its own")


def _classes(rows: Any) -> Classes:
    """The table of classes. Raises InputError for rows that are no names with ids."""
    if not isinstance(rows, list) or not rows:
        raise InputError(f"classes: must be a list of names and ids, not {shown(rows)}")
    for number, row in enumerate(rows):
        mapping(row, f"classes: row {number}")
        text(row["name"], f"classes: name of row {number}", 10_000)
        integer(row["id"], f"classes: id of row {number}", -(2**63), 2**63 - 1)
    return Classes.from_list(rows)


def is_bundle(path: str | Path) -> bool:
    """Whether a folder holds a bundle's config, perhaps in an interrupted writing's place."""
    return (Path(path) / CONFIG).is_file() or _waiting(Path(path)) is not None


def look_at(path: str | Path) -> None:
    """Refuses a bundle whose config or whose weights' header is wrong, before anything large is read or imported.

    Raises:
        InputError: such a config or header. A missing file is left to :func:`read_bundle` to explain.
    """
    config, weights = Path(path) / CONFIG, Path(path) / WEIGHTS
    if is_regular(config) and is_regular(weights):
        read_config(config)
        read_header(weights)


def read_bundle(path: str | Path) -> Bundle:
    """Reads a bundle's config and checks that its weights are there and unaltered.

    A bundle whose writing was cut off between its two files is whole all the same: the config that waits beside the
    new weights counts.

    Raises:
        InputError: no bundle there, a file missing, damaged or altered; the message names the file.
    """
    folder = Path(path)
    config, weights = folder / CONFIG, folder / WEIGHTS
    if not folder.exists():
        raise InputError(f"{folder}: no such bundle")
    waiting = _waiting(folder)
    if waiting is not None:
        return waiting
    if not config.is_file():
        raise InputError(f"{folder}: not a bundle: {CONFIG} is missing")
    for _ in range(2):  # a training may write a new one in between
        bundle = read_config(config)
        if not weights.is_file():
            raise InputError(f"{folder}: not a whole bundle: {WEIGHTS} is missing")
        if bundle.sha256 == _sha256(weights):
            return bundle
    raise InputError(f"{weights}: is not the file that {CONFIG} describes (SHA-256 differs): altered or damaged")


def read_config(config: Path) -> Bundle:
    """Reads ``config.json`` alone.

    Raises:
        InputError: damaged, or no bundle's.
    """
    values = parse_json(read_bytes(config, _CONFIG_LIMIT, "bundle's config"), f"{config}: damaged")
    try:
        return Bundle.from_dict(values)
    except InputError as error:
        raise InputError(f"{config}: {error}") from error


def config_text(bundle: Bundle) -> str:
    """``config.json`` as text."""
    return json.dumps(bundle.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_bundle(path: str | Path, bundle: Bundle, save_weights: Callable[[Path], None]) -> Bundle:
    """Writes a bundle; each file appears whole or not at all, the config last. A failure leaves the old bundle.

    Args:
        path: the folder; made if missing.
        bundle: its config; ``sha256`` is filled in.
        save_weights: writes the weights to the path it is given.

    Returns:
        The bundle as written.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = _partial(folder, WEIGHTS), _partial(folder, CONFIG)
    if _waiting(folder) is not None:
        config.replace(folder / CONFIG)
    try:
        save_weights(weights)
        written = replace(bundle, sha256=_sha256(weights))
        config.write_text(config_text(written), encoding="utf-8")
    except BaseException:
        weights.unlink(missing_ok=True)
        config.unlink(missing_ok=True)
        raise
    weights.replace(folder / WEIGHTS)
    config.replace(folder / CONFIG)
    return written


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def _waiting(folder: Path) -> Bundle | None:
    """The config that an interrupted writing left beside its weights, if there is one and it is theirs."""
    try:
        bundle = read_config(_partial(folder, CONFIG))
        return bundle if bundle.sha256 == _sha256(folder / WEIGHTS) else None
    except (OSError, InputError):
        return None


def _sha256(path: Path) -> str:
    with open_regular(path, "weights file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has what is asked for
