"""Bundles: a trained model as a folder of ``model.safetensors`` and ``config.json``. Torch-free."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fishnet.data.labels import Classes
from fishnet.errors import InputError
from fishnet.preprocess import Preprocess

# 1: classifiers; 2: pictures may be taken whole (preprocess.fit), or stretched from 16 bits (sixteen_bit);
# 3: or in their own size (fit "native"), for label maps
SCHEMA = 3
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_TEXTS = ("task", "backbone", "head", "sha256")
_OBJECTS = ("preprocess", "backbone_args", "head_args", "thresholds", "metrics", "recipe", "data", "versions")


@dataclass(frozen=True)
class Bundle:
    """Everything that is needed to use a trained model, and how it came about.

    Attributes:
        task: ``classify`` ...
        backbone: a timm model name.
        backbone_args: its keyword arguments.
        head: the task head's name.
        head_args: its keyword arguments.
        classes: names and original ids, in the order of the outputs.
        preprocess: how pictures become input.
        thresholds: scores below which a task's results are dropped, 0..1.
        metrics: measured on the validation set, in percent.
        recipe: the training's settings.
        data: what the training's data is recognised by; see :func:`fishnet.data.open.marks`.
        versions: of the packages that wrote it.
        sha256: of the weights file; checked when it is read.
    """

    task: str
    backbone: str
    classes: Classes
    preprocess: Preprocess
    head: str = "default"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    head_args: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """``config.json``'s content."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        values["classes"], values["preprocess"] = self.classes.to_list(), self.preprocess.to_dict()
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
        if not isinstance(schema, int) or schema < 1:
            raise InputError(f"schema {schema!r} is no bundle schema")
        if schema > SCHEMA:
            raise InputError(f"schema {schema} is newer than this version's {SCHEMA}: upgrade fishnet-vision")
        for names, kind in ((_TEXTS, str), (_OBJECTS, dict)):
            for name in names:
                if not isinstance(values.get(name, kind()), kind):
                    what = "a text" if kind is str else "an object"
                    raise InputError(f"not a valid bundle config ({name}: must be {what}, not {values[name]!r})")
        try:
            values["classes"] = Classes.from_list(values["classes"])
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a valid bundle config ({type(error).__name__}: {error})") from error


def is_bundle(path: str | Path) -> bool:
    """Whether a folder holds a bundle's config, perhaps in an interrupted writing's place."""
    return (Path(path) / CONFIG).is_file() or _waiting(Path(path)) is not None


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
    try:
        return Bundle.from_dict(json.loads(config.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: damaged ({error})") from error
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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
