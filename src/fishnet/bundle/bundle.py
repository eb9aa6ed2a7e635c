"""Bundles: a trained model as a folder with ``model.safetensors`` and ``config.json``. Torch-free."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fishnet.bundle.checks import check_backbone, check_head, check_values, read_classes
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import INSTANCES, SEGMENT, PanopticConfig
from fishnet.bundle.renamed import DATA_KEYS, with_current_keys
from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import MIB, read_bytes
from fishnet.files.tensors import TensorFile, hash_file
from fishnet.files.values import mapping, real, shown, text
from fishnet.images.preprocess import Preprocess
from fishnet.weights import weight_names

# 1: classifiers. 2: whole images (preprocess.fit) and images stretched from 16 bits (sixteen_bit).
# 3: images in their own size (fit "native"), for label maps. 4: heads by name, in the config and in the weights' names;
# and ``panoptic``, written only where it is not None: an earlier reader of schema 4 refuses this key.
SCHEMA = 4
WEIGHTS, CONFIG = "model.safetensors", "config.json"
LABEL = "class:"  # before a class's name, in the names of thresholds
_HEAD_KEYS = ("task", "head", "head_args", "classes", "thresholds")  # of the only head, up to schema 3
_MAX_CONFIG = 64 * MIB

T = TypeVar("T")


def only_item(heads: Mapping[str, T]) -> tuple[str, T]:
    """Name and value of the only head. Raises InputError for a model with several heads."""
    if len(heads) > 1:
        raise InputError(f"this model has several heads ({', '.join(heads)}): only models with one head are supported")
    return next(iter(heads.items()))


@dataclass(frozen=True)
class HeadConfig:
    """One head of a model.

    Attributes:
        task: ``classify`` ...
        classes: names and original ids, in the order of the outputs.
        head: which of the task's heads; ``default`` for its first.
        head_args: the head's keyword arguments.
        thresholds: scores below which the task's results are dropped, 0..1, by name: ``score`` for all classes, or
            :data:`LABEL` and a class's name for the class alone.
    """

    task: str
    classes: Classes
    head: str = "default"
    head_args: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        """Whether the head is a classifier of images with any number of labels: ``multi_label`` in its arguments."""
        return bool(self.head_args.get("multi_label"))

    @property
    def label_thresholds(self) -> tuple[float, ...]:
        """The confidence threshold of each class (the lowest score of a label), 0..1; 0.5 where none is stored."""
        return tuple(self.thresholds.get(f"{LABEL}{name}", 0.5) for name in self.classes.names)

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
        """The inverse of :meth:`to_dict`. Raises InputError for an invalid value; ``name`` is the head's."""
        where = f"heads: {name}"
        values = dict(mapping(values, where))
        for key in ("task", "head"):
            text(values.get(key, ""), f"{where}: {key}", 1000)
        mapping(values.get("thresholds", {}), f"{where}: thresholds")
        for key, value in values.get("thresholds", {}).items():
            real(value, f"{where}: thresholds: {key}", 0, 1)
        values["head_args"] = with_current_keys(mapping(values.get("head_args", {}), "head_args"), "head_args")
        check_head(values["head_args"])
        values["classes"] = read_classes(values["classes"])
        return cls(**values)


@dataclass(frozen=True)
class Bundle:
    """Everything needed to use a trained model, and how the model was made.

    Attributes:
        backbone: a timm model name.
        heads: by name; the name of a task's only head is the task's.
        preprocess: turns images into input.
        backbone_args: the backbone's keyword arguments.
        metrics: measured on the validation set, in percent.
        recipe: the training's settings.
        data: identifies the training's data; see :func:`fishnet.data.identity.fingerprint`.
        versions: versions of the packages that wrote the bundle.
        sha256: SHA-256 of the weights file, checked when the file is read.
        panoptic: how the heads ``instances`` and ``segment`` are merged; None for models that are not panoptic.
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
    panoptic: PanopticConfig | None = None

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
        """A bundle with one head, named after its task. Arguments: see :class:`HeadConfig` and :class:`Bundle`."""
        config = HeadConfig(task, classes, head, head_args or {}, thresholds or {})
        return cls(backbone, {task: config}, preprocess, **more)

    @property
    def only_head(self) -> HeadConfig:
        """The config of the only head.

        Raises:
            InputError: a model with several heads.
        """
        return only_item(self.heads)[1]

    @property
    def task(self) -> str:
        """Task of the only head."""
        return self.only_head.task

    @property
    def head(self) -> str:
        """Kind of the only head: one of its task's heads."""
        return self.only_head.head

    @property
    def head_args(self) -> dict[str, Any]:
        """Keyword arguments of the only head."""
        return self.only_head.head_args

    @property
    def classes(self) -> Classes:
        """Classes of the only head."""
        return self.only_head.classes

    @property
    def thresholds(self) -> dict[str, float]:
        """Thresholds of the only head."""
        return self.only_head.thresholds

    def to_dict(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        values["heads"] = {name: head.to_dict() for name, head in self.heads.items()}
        values["preprocess"] = self.preprocess.to_dict()
        panoptic = values.pop("panoptic")
        return {"schema": SCHEMA, **values, **({} if panoptic is None else {"panoptic": panoptic.to_dict()})}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Bundle":
        """The inverse of :meth:`to_dict`, for every schema up to the current one.

        Raises:
            InputError: a newer schema, a missing or unknown key, or an invalid value.
        """
        if not isinstance(values, dict):
            raise InputError("not a bundle config (not an object)")
        values = dict(values)
        schema = values.pop("schema", None)
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise InputError(f"schema {shown(schema)} is not a bundle schema")
        if schema > SCHEMA:
            raise InputError(f"schema {shown(schema)} is newer than this version's {SCHEMA}: upgrade fishnet-vision")
        try:
            if schema < 4:
                if "heads" in values:
                    raise InputError(f"heads: a bundle of schema {schema} has none")
                head = {key: values.pop(key) for key in _HEAD_KEYS if key in values}
                values["heads"] = {text(head["task"], "task", 1000): head}
            check_values(values)
            if "recipe" in values:
                values["recipe"] = with_current_keys(values["recipe"], "recipe")
            if "data" in values:
                values["data"] = with_current_keys(values["data"], "data", DATA_KEYS)
            check_backbone(values["backbone"], values.get("backbone_args", {}))
            values["heads"] = {name: HeadConfig.from_dict(head, name) for name, head in values["heads"].items()}
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            if values.get("panoptic") is not None:
                values["panoptic"] = read_panoptic(values["panoptic"], values["heads"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise InputError(f"not a valid bundle config ({error})") from None
            raise InputError(f"not a valid bundle config ({type(error).__name__}: {error})") from error


def read_panoptic(values: Any, heads: Mapping[str, HeadConfig]) -> PanopticConfig:
    """Reads the panoptic config. Raises InputError for an invalid one, or one that does not fit the heads."""
    config = PanopticConfig.from_dict(values)
    for name in (INSTANCES, SEGMENT):
        if name not in heads:
            raise InputError(f"panoptic: the model has no head {name!r}")
    config.check(heads[INSTANCES].classes, heads[SEGMENT].classes)
    return config


def is_bundle(path: str | Path) -> bool:
    """Whether a folder holds a bundle's config, or the config and weights of an interrupted writing."""
    return (Path(path) / CONFIG).is_file() or _interrupted_write(Path(path)) is not None


def read_bundle(path: str | Path) -> Bundle:
    """Reads a bundle's config and checks that its weights are there and unaltered.

    A bundle whose writing was interrupted between its two files is complete too: the config that was written for the
    new weights is used.

    Raises:
        InputError: no bundle there, or a missing, damaged or altered file; the message names the file.
    """
    return _read(Path(path), with_weights=False)[0]


def read_with_weights(path: str | Path) -> tuple[Bundle, TensorFile]:
    """Reads a bundle's config and its weights, whose header is checked too. The weights file is read once.

    Raises:
        InputError: as :func:`read_bundle`, or weights that are not a safetensors file.
    """
    bundle, weights = _read(Path(path), with_weights=True)
    assert weights is not None
    return bundle, weights


def _read(folder: Path, *, with_weights: bool) -> tuple[Bundle, TensorFile | None]:
    config, weights = folder / CONFIG, folder / WEIGHTS
    if not folder.exists():
        names = f" (networks with weights in this package: {', '.join(weight_names())})" if weight_names() else ""
        raise InputError(f"{folder}: no such bundle{names}")
    interrupted = _interrupted_write(folder)
    if interrupted is None and not config.is_file():
        raise InputError(f"{folder}: not a bundle: {CONFIG} is missing")
    for _ in range(2):  # a training may write a new bundle between the two reads
        bundle = interrupted or read_config(config)
        if not weights.is_file():
            raise InputError(f"{folder}: not a complete bundle: {WEIGHTS} is missing")
        file = TensorFile.read(weights) if with_weights else None
        if bundle.sha256 == (hash_file(weights) if file is None else file.sha256):
            return bundle, file
        interrupted = None
    raise InputError(f"{weights}: is not the file that {CONFIG} describes (SHA-256 differs): altered or damaged")


def read_config(config: Path) -> Bundle:
    """Reads ``config.json`` alone.

    Raises:
        InputError: a damaged file, or not a bundle's config.
    """
    values = parse_json(read_bytes(config, _MAX_CONFIG, "bundle's config"), f"{config}: damaged")
    try:
        return Bundle.from_dict(values)
    except InputError as error:
        raise InputError(f"{config}: {error}") from error


def config_text(bundle: Bundle) -> str:
    """``config.json`` as text."""
    return json.dumps(bundle.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_bundle(path: str | Path, bundle: Bundle, save_weights: Callable[[Path], None]) -> Bundle:
    """Writes a bundle. Each file appears complete or not at all, the config last. A failure leaves the old bundle.

    Args:
        path: the folder, created if missing.
        bundle: the config; ``sha256`` is filled in.
        save_weights: writes the weights to the given path.

    Returns:
        The bundle as written.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = _partial(folder, WEIGHTS), _partial(folder, CONFIG)
    if _interrupted_write(folder) is not None:
        config.replace(folder / CONFIG)
    try:
        save_weights(weights)
        written = replace(bundle, sha256=hash_file(weights))
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


def _interrupted_write(folder: Path) -> Bundle | None:
    """The config that an interrupted writing left beside its weights; None if there is no matching config."""
    try:
        bundle = read_config(_partial(folder, CONFIG))
        return bundle if bundle.sha256 == hash_file(folder / WEIGHTS) else None
    except (OSError, InputError):
        return None
