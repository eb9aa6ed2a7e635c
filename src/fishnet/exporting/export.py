"""Exports a bundle to a file, compares the file with the bundle, and keeps it if they agree."""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.hub import bundle_path
from fishnet.errors import InputError, WorkError, first_line, nearest
from fishnet.exporting.check import LIMITS, Check, compare
from fishnet.exporting.graphs import (
    exporters,
    refuse_pt2,
    rewrite_description,
    write_onnx,
    write_openvino,
    write_pt2,
)
from fishnet.exporting.samples import CalibrationImages, images_to_compare
from fishnet.prediction.sources import Source
from fishnet.runtime.engines import openvino_has_bf16
from fishnet.runtime.exported import SUFFIXES, Exported, Format, Precision, label
from fishnet.tasks.base import Splits
from fishnet.tasks.model import Model

NEEDED: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "pt2": (),
}
CALIBRATION = 128  # images to calibrate int8 on
_FREE = 4  # disk space that writing may need, as a multiple of the weights' bytes


@dataclass(frozen=True)
class ExportConfig:
    """The settings of an export.

    Attributes:
        to: the format.
        precision: ``fp32``; ``fp16``, weights in 16 bits; ``bf16``, arithmetic in 16 bits where the CPU has it; or
            ``int8``, weights and arithmetic in 8 bits.
        out: the file; by default ``model.onnx`` (``model-int8.onnx`` ...) in the bundle's folder.
        images: files, folders or patterns to compare on; by default images of ``data``, else a photo that comes with
            matplotlib.
        data: labelled data, as for training, to calibrate int8 on, and to evaluate int8 and bf16 on.
        split: the split to evaluate on; by default ``val`` if there is one, else as in ``fishnet val``.
        max_drop: the largest drop of the task's metric that int8 or bf16 may cause, in percentage points.
        calibration: the number of images to calibrate int8 on.
    """

    to: Format = "onnx"
    precision: Precision = "fp32"
    out: Path | None = None
    images: Sequence[str] = ()
    data: str | None = None
    split: str | None = None
    max_drop: float = 1.0
    calibration: int = CALIBRATION


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes:
        path: the file. OpenVINO's weights lie beside it, with the suffix ``.bin``.
        exported: the description inside the file.
        checks: the comparison of each head with the bundle, by the head's name; none for int8, which is evaluated
            instead. That of bf16 is of the file in float32.
        size: bytes.
    """

    path: Path
    exported: Exported
    checks: dict[str, Check]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON. ``task`` and ``check`` of a model with several heads are by head."""
        exported, heads = self.exported, self.exported.bundle.heads
        checks = {name: check.to_dict() for name, check in self.checks.items()}
        return {
            "file": str(self.path),
            "bytes": self.size,
            "to": exported.format,
            "precision": exported.precision,
            "task": _by_head({name: head.task for name, head in heads.items()}),
            "outputs": list(exported.outputs),
            "dynamic_batch": exported.dynamic_batch,
            "size": None if exported.size is None else list(exported.size),
            "check": _by_head(checks) if checks else None,
            "metrics": exported.metrics,
        }


def _by_head(values: dict[str, Any]) -> Any:
    """The values by head, or the value of the only head."""
    return values if len(values) > 1 else next(iter(values.values()))


def export(
    bundle: str | Path,
    *,
    to: Format = "onnx",
    precision: Precision = "fp32",
    out: str | Path | None = None,
    images: Sequence[str] = (),
    data: str | Path | None = None,
    split: str | None = None,
    max_drop: float = 1.0,
    calibration: int = CALIBRATION,
    log: Callable[[str], None] = lambda line: None,
) -> ExportResult:
    """Exports a bundle, compares the file with the bundle, and keeps the file if they agree.

    The file is written completely or not at all; if anything fails, an older file of that name stays.

    Args:
        bundle: the bundle's folder, or its name on the hub.
        to, precision, out, images, data, split, max_drop, calibration: see :class:`ExportConfig`.
        log: is called with lines on the progress and the results.

    Raises:
        InputError: there is no such bundle, or these settings cannot export it. Raised before any work.
        WorkError: the file does not agree with the bundle, or int8 lowers the metric too much.
        ModuleNotFoundError: a package that the format needs is missing.
    """
    config = ExportConfig(
        to, precision, None if out is None else Path(out), tuple(images), None if data is None else str(data), split,
        max_drop, calibration,
    )  # fmt: skip
    _check_config(config)
    return _export(str(bundle), config, log)


def _export(source: str, config: ExportConfig, log: Callable[[str], None]) -> ExportResult:
    from fishnet.tasks.store import load_model

    folder = bundle_path(source)
    bundle, model = load_model(folder)
    if config.to == "pt2":
        refuse_pt2(model, bundle)
    _refuse_data(bundle, config)
    path = _path_of(source, folder, config)
    splits = None if config.data is None else _open_splits(bundle, config.data, config.split)
    images = images_to_compare(bundle, config.images, config.data, splits, log)
    calibration: CalibrationImages | None = None
    if splits and config.precision == "int8":
        calibration = CalibrationImages.of(bundle, splits, config.calibration)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as temporary:
        work = Path(temporary) / path.name
        exported, checks = _write_agreeing(bundle, model, config, work, images, log)
        split = config.split or ("val" if splits and "val" in splits else None)
        if calibration is not None:
            exported, checks = _quantize(bundle, exported, config, work, calibration, split, log), {}
        elif config.precision == "bf16":
            exported = _request_bf16(bundle, exported, config, work, split, log)
        size = sum(file.stat().st_size for file in _files(work))
        for file in reversed(_files(work)):  # the .bin first: an .xml needs its weights beside it
            file.replace(path.parent / file.name)
    return ExportResult(path, exported, checks, size)


def _check_config(config: ExportConfig) -> None:
    """Raises InputError for settings that do not fit, and ModuleNotFoundError for a missing package."""
    if config.to not in get_args(Format):
        raise InputError(f"to={config.to}: choose from {', '.join(get_args(Format))}")
    if config.precision not in get_args(Precision):
        raise InputError(f"precision={config.precision}: choose from {', '.join(get_args(Precision))}")
    if config.to == "pt2" and config.precision != "fp32":
        raise InputError(f"precision={config.precision}: pt2 is written in fp32 only: choose onnx or openvino")
    if config.precision == "bf16" and config.to != "openvino":
        raise InputError(f"precision=bf16: {config.to} files compute as they were written: choose openvino")
    if config.precision in ("int8", "bf16") and config.data is None:
        what = "calibrate and evaluate on" if config.precision == "int8" else "evaluate on"
        raise InputError(f"precision={config.precision} needs labelled data to {what}: give data")
    if not config.max_drop >= 0:
        raise InputError(f"max_drop={config.max_drop:g}: must be 0 or more")
    if config.calibration < 1:
        raise InputError(f"calibration={config.calibration}: must be 1 or more")
    if config.out is not None and config.out.suffix != SUFFIXES[config.to]:
        raise InputError(f"{config.out}: a file for {config.to} ends in {SUFFIXES[config.to]}")
    needed = [*NEEDED[config.to], *(["nncf"] if (config.to, config.precision) == ("openvino", "int8") else [])]
    for package in needed:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    if config.precision == "bf16" and not openvino_has_bf16():
        raise InputError("precision=bf16: this machine does not compute in bf16, so the file cannot be evaluated here")


def _refuse_data(bundle: Bundle, config: ExportConfig) -> None:
    """Raises InputError if labelled data is given for a model with several heads, as no single metric covers them."""
    if len(bundle.heads) == 1:
        return
    if config.precision in ("int8", "bf16"):
        raise InputError(
            f"precision={config.precision}: this model has several heads ({', '.join(bundle.heads)}), and "
            f"{config.precision} is only evaluated for models with one: choose fp32 or fp16"
        )
    if config.data is not None:
        raise InputError(f"data={config.data}: is not supported for a model with several heads: give images instead")


def _path_of(source: str, folder: Path, config: ExportConfig) -> Path:
    """Returns the path of the file. Raises InputError or WorkError if it cannot be written there."""
    name = "model" if config.precision == "fp32" else f"model-{config.precision}"
    path = config.out or (folder if Path(source) == folder else Path()) / f"{name}{SUFFIXES[config.to]}"
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such folder'}: choose another out")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent}: cannot be written to: choose another out")
    needed = _FREE * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if shutil.disk_usage(path.parent).free < needed:
        raise WorkError(f"{path.parent}: less than {needed / 1e6:.0f} MB free: choose another out")
    return path


def _files(path: Path) -> list[Path]:
    """Returns the files of an exported model: the file itself, and for an .xml its .bin."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _open_splits(bundle: Bundle, data: str, split: str | None) -> Splits:
    """Opens the splits of the data. Raises InputError for bad data, or if there is no such split."""
    from fishnet.evaluation.evaluate import open_splits

    splits = open_splits(bundle, data, split)
    if split is not None and split not in splits:
        raise InputError(f"{data}: has no split {split!r}: {nearest(split, splits)}")
    return splits


def _write_agreeing(
    bundle: Bundle,
    model: Model,
    config: ExportConfig,
    work: Path,
    images: Sequence[Source],
    log: Callable[[str], None],
) -> tuple[Exported, dict[str, Check]]:
    """Writes the file with the first exporter whose result agrees with the bundle."""
    from fishnet.tasks.engine import TorchEngine

    reference = TorchEngine(bundle, model, "cpu")
    failures: list[str] = []
    precision: Precision = "fp16" if config.precision == "fp16" else "fp32"
    for exporter in (None,) if config.to == "pt2" else exporters(model):
        try:
            exported = _write(bundle, model, config.to, precision, work, exporter, config.precision == "int8")
        except WorkError as error:
            failures.append(str(error))
            continue
        try:
            checks = compare(exported, reference, _engine(work), images, LIMITS[precision])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # each engine has its own exceptions
            failures.append(f"it does not run ({first_line(error)})")
            continue
        for head, check in checks.items():
            if check.objects == 0 and not check.unmatched:
                raise InputError(
                    f"{label(bundle, head)}nothing to compare: the model detects nothing with a score above 0.05 in "
                    "these images: give images that show objects"
                )
        lines = [f"{label(bundle, head)}{line}" for head, check in checks.items() for line in check.lines()]
        faults = [f"{label(bundle, head)}{fault}" for head, check in checks.items() for fault in check.faults]
        if not faults:
            for line in lines:
                log(line)
            return exported, checks
        failures.append("; ".join([*lines, *faults]))
    raise WorkError(f"the {config.to} file does not agree with the bundle and was not kept: {' / '.join(failures)}")


def _write(
    bundle: Bundle, model: Model, to: Format, precision: Precision, work: Path, exporter: Any, plain: bool
) -> Exported:
    """Writes a file in fp32 or fp16. With ``plain`` the graph is not rewritten, as quantization requires."""
    if to == "pt2":
        return write_pt2(model, bundle, work)
    onnx = work.with_suffix(".onnx")
    exported = write_onnx(model, bundle, onnx, exporter, plain=plain or to == "openvino")
    if to == "openvino":
        exported = write_openvino(onnx, work, exported)
    if precision == "fp16":
        from fishnet.exporting.quantize import store_fp16_onnx, store_fp16_openvino

        store = store_fp16_onnx if to == "onnx" else store_fp16_openvino
        halved = work.with_name(f".half-{work.name}")
        store(work, halved)
        exported = _replace(work, halved, replace(exported, precision="fp16"))
    return exported


def _replace(path: Path, new: Path, exported: Exported) -> Exported:
    """Replaces a file with a new one, and writes its description into it."""
    rewrite_description(new, exported)
    for file, target in zip(_files(new), _files(path), strict=True):
        file.replace(target)
    return exported


def _engine(path: Path) -> Any:
    if path.suffix == ".pt2":
        from fishnet.runtime.pt2 import open_pt2

        return open_pt2(path, trust=True)  # this process has written the file
    from fishnet.runtime.engines import open_engine

    return open_engine(path)


def _quantize(
    bundle: Bundle,
    exported: Exported,
    config: ExportConfig,
    work: Path,
    images: CalibrationImages,
    split: str | None,
    log: Callable[[str], None],
) -> Exported:
    """Turns an fp32 file into an int8 one. Raises WorkError if the metric drops too much."""
    from fishnet.exporting.quantize import quantize_onnx, quantize_openvino

    quantized = work.with_name(f".small-{work.name}")
    log(f"calibrating int8 on {len(images.indices)} images of {config.data}")
    (quantize_onnx if config.to == "onnx" else quantize_openvino)(work, quantized, images)
    return _replace(work, quantized, _evaluated(bundle, exported, config, (work, quantized), split, log))


def _request_bf16(
    bundle: Bundle, exported: Exported, config: ExportConfig, work: Path, split: str | None, log: Callable[[str], None]
) -> Exported:
    """Has an fp32 file request bf16 of its engine. Raises WorkError if the metric drops too much."""
    requesting = work.with_name(f".bf16-{work.name}")
    for file, copy in zip(_files(work), _files(requesting), strict=True):
        shutil.copyfile(file, copy)
    rewrite_description(requesting, replace(exported, precision="bf16"))
    return _replace(work, requesting, _evaluated(bundle, exported, config, (work, requesting), split, log))


def _evaluated(
    bundle: Bundle,
    exported: Exported,
    config: ExportConfig,
    files: tuple[Path, Path],
    split: str | None,
    log: Callable[[str], None],
) -> Exported:
    """The description of the second file, with the metrics of both. Raises WorkError if the second are too low."""
    from fishnet.tasks import get_task

    name = config.precision
    before, after = (_evaluate(bundle, file, config.data or "", split) for file in files)
    metric = get_task(bundle.task).for_head(bundle.only_head).monitor
    if not all(metric in values and math.isfinite(values[metric]) for values in (before, after)):
        raise WorkError(f"{name}: {metric} on {config.data} is not a finite number: the file was not kept")
    drop = before[metric] - after[metric]
    log(f"{metric}: {before[metric]:.2f} % in fp32, {after[metric]:.2f} % in {name}")
    if drop > config.max_drop:
        more = "calibrate on more images (calibration), " if name == "int8" else ""
        raise WorkError(
            f"{name} lowers {metric} by {drop:.2f} points, more than max_drop={config.max_drop:g}: the file was not "
            f"kept: raise max_drop, {more}or use fp32 or fp16"
        )
    return replace(exported, precision=name, metrics={"fp32": before, name: after})


def _evaluate(bundle: Bundle, file: Path, data: str, split: str | None) -> dict[str, float]:
    from fishnet.evaluation.evaluate import evaluate
    from fishnet.prediction.predictor import Predictor

    return evaluate(Predictor(bundle, _engine(file)), data, split=split).metrics
