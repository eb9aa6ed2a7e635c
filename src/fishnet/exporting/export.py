"""From a bundle to an exported file that was seen to agree with it."""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.hub import is_remote, local_path
from fishnet.data.base import ImageDataset
from fishnet.errors import InputError, WorkError, first_line, nearest
from fishnet.exporting.check import LIMITS, Check, compare
from fishnet.exporting.graphs import refuse_pt2, rewrite, ways, write_onnx, write_openvino, write_pt2
from fishnet.images.decoding import ImageLike, size_of
from fishnet.prediction.inputs import cut, load_image, prepare_input
from fishnet.prediction.sources import Source
from fishnet.prediction.tiling import tiles
from fishnet.runtime.exported import SUFFIXES, Exported, Format, Precision
from fishnet.tasks.base import Splits
from fishnet.tasks.model import Model

NEEDED: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "pt2": (),
}
IMAGES = 8  # compared at most, of many
CALIBRATION = 128  # images that int8 is fitted to
_FREE = 4  # times the weights' bytes: what writing takes of a disk at the most


@dataclass(frozen=True)
class ExportConfig:
    """What is wanted of an export.

    Attributes:
        to: the format.
        precision: ``fp32``; ``fp16``, weights in 16 bits; ``int8``, weights and arithmetic in 8.
        out: the file; by default ``model.onnx`` (``model-int8.onnx`` ...) in the bundle's folder.
        images: files, folders or patterns to compare on; by default those of ``data``, else a photo that matplotlib
            carries.
        data: labelled data, as for training: what int8 is fitted to and measured on.
        split: the part to measure int8 on; by default ``val`` where there is one, else as in validation.
        max_drop: percentage points of the task's metric that int8 may cost.
        calibration: images that int8 is fitted to.
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
    """What an export has made.

    Attributes:
        path: of the file; OpenVINO's weights lie beside it, with the ending ``.bin``.
        exported: what it says of itself.
        check: what comparing it with the bundle has found; None for int8, which is measured instead.
        size: bytes.
    """

    path: Path
    exported: Exported
    check: Check | None
    size: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        it = self.exported
        return {
            "file": str(self.path),
            "bytes": self.size,
            "to": it.format,
            "precision": it.precision,
            "task": it.bundle.task,
            "outputs": list(it.outputs),
            "many": it.dynamic_batch,
            "size": None if it.size is None else list(it.size),
            "check": None if self.check is None else self.check.to_dict(),
            "metrics": it.metrics,
        }


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
    """Exports a bundle, compares the file with it, and keeps the file if it agrees.

    The file appears whole or not at all; an older one of its name stays where anything fails.

    Args:
        bundle: the bundle's folder, or its name on the hub.
        to, precision, out, images, data, split, max_drop, calibration: see :class:`ExportConfig`.
        tell: receives lines on what is done and found.

    Raises:
        InputError: no bundle, or something that cannot be exported: said before any work.
        WorkError: the file does not agree with the bundle, or int8 costs too much.
        ModuleNotFoundError: a package that the format needs.
    """
    config = ExportConfig(
        to, precision, None if out is None else Path(out), tuple(images), None if data is None else str(data), split,
        max_drop, calibration,
    )  # fmt: skip
    _check_config(config)
    return _export(str(bundle), config, log)


def _export(source: str, config: ExportConfig, log: Callable[[str], None]) -> ExportResult:
    from fishnet.tasks.store import load_model

    folder = local_path(source)
    bundle, model = load_model(folder)
    if config.to == "pt2":
        refuse_pt2(model, bundle)
    path = _place(source, folder, config)
    splits = None if config.data is None else _opened(bundle, config.data, config.split)
    images = _images(bundle, config, splits, log)
    calibration = _Calibration.of(bundle, config, splits) if splits and config.precision == "int8" else None
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as place:
        work = Path(place) / path.name
        it, agreed = _agreeing(bundle, model, config, work, images, log)
        check: Check | None = agreed
        if calibration is not None:
            it, check = _quantised(bundle, it, config, work, calibration, log), None
        size = sum(file.stat().st_size for file in _files(work))
        for file in reversed(_files(work)):  # the .bin first: an .xml has its weights beside it
            file.replace(path.parent / file.name)
    return ExportResult(path, it, check, size)


def _check_config(config: ExportConfig) -> None:
    if config.to not in get_args(Format):
        raise InputError(f"--to {config.to}: choose from {', '.join(get_args(Format))}")
    if config.precision not in get_args(Precision):
        raise InputError(f"--precision {config.precision}: choose from {', '.join(get_args(Precision))}")
    if config.to == "pt2" and config.precision != "fp32":
        raise InputError(f"--precision {config.precision}: pt2 is written in fp32 only: choose onnx or openvino")
    if config.precision == "int8" and config.data is None:
        raise InputError("--precision int8 is fitted to your images and measured on them: name your data with --data")
    if not config.max_drop >= 0 or config.calibration < 1:
        raise InputError(
            f"--max-drop {config.max_drop:g}, --calibration {config.calibration}: must be 0 or more, 1 or more"
        )
    if config.out is not None and config.out.suffix != SUFFIXES[config.to]:
        raise InputError(f"{config.out}: a file for {config.to} ends in {SUFFIXES[config.to]}")
    needed = [*NEEDED[config.to], *(["nncf"] if (config.to, config.precision) == ("openvino", "int8") else [])]
    for package in needed:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def _place(source: str, folder: Path, config: ExportConfig) -> Path:
    """Where the file goes. Raises InputError for a place that cannot take it."""
    name = "model" if config.precision == "fp32" else f"model-{config.precision}"
    path = config.out or (Path() if is_remote(source) else folder) / f"{name}{SUFFIXES[config.to]}"
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such folder'}: choose another --out")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent}: cannot be written to: choose another --out")
    needed = _FREE * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if shutil.disk_usage(path.parent).free < needed:
        raise WorkError(f"{path.parent}: less than {needed / 1e6:.0f} MB free: choose another --out")
    return path


def _files(path: Path) -> list[Path]:
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _images(bundle: Bundle, config: ExportConfig, splits: Splits | None, log: Callable[[str], None]) -> list[Source]:
    """What to compare on; each was read once, so that a bad one is found before the work."""
    from fishnet.images.video import is_video
    from fishnet.prediction.sources import find_sources

    if config.images:
        files = [file for file in find_sources(config.images) if not is_video(file)]
        if not files:
            raise InputError("--images: videos alone: name some images")
        return [_piece(bundle, Path(file)) for file in _spread(files, IMAGES)]
    if splits is not None:
        part: ImageDataset = splits.get("val") or splits.get("test") or next(iter(splits.values()))
        images, broken = list[Source](), ""
        for i in _spread(range(len(part)), IMAGES):
            try:
                images.append(_tile(bundle, part.read(i)[0]))
            except InputError as error:  # as in validation, the others count
                broken = str(error)
        if not images:
            raise InputError(f"{config.data}: nothing to compare on: {broken}")
        return images
    photo = _photo(bundle)
    log("compared on a photo that matplotlib carries: --images FOLDER compares on yours")
    return [_piece(bundle, photo)]


def _piece(bundle: Bundle, source: Path) -> Source:
    """An image file as it is, or one tile of an image that is predicted in tiles. Raises InputError if unreadable."""
    image = load_image(source, bundle.preprocess)
    tile = _tile(bundle, image)
    return source if tile is image else tile


def _tile(bundle: Bundle, image: ImageLike) -> ImageLike:
    """The middle tile of an image that is predicted in tiles; of others the image itself."""
    from fishnet.prediction.passes import default_tiling

    size = size_of(image)
    tiling = default_tiling(bundle, size)
    if tiling is None:
        return image
    places = tiles(*size, *tiling)
    return cut(image, places[len(places) // 2])


def _photo(bundle: Bundle) -> Path:
    spec = find_spec("matplotlib")
    file = Path(spec.origin or "").parent / "mpl-data" / "sample_data" / "grace_hopper.jpg" if spec else Path()
    if bundle.preprocess.channels not in (1, 3) or not file.is_file():
        raise InputError("nothing to compare the export on: name some images with --images FOLDER")
    return file


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Some, from the whole length."""
    count = min(len(items), most)
    return [items[i * len(items) // count] for i in range(count)]


def _opened(bundle: Bundle, data: str, split: str | None) -> Splits:
    """The parts of the data. Raises InputError: bad data, or a split that they do not have."""
    from fishnet.evaluation.evaluate import open_splits

    splits = open_splits(bundle, data, split)
    if split is not None and split not in splits:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, splits)}")
    return splits


def _agreeing(
    bundle: Bundle,
    model: Model,
    config: ExportConfig,
    work: Path,
    images: Sequence[Source],
    log: Callable[[str], None],
) -> tuple[Exported, Check]:
    """Writes the file, by the first way that agrees with the bundle."""
    from fishnet.tasks.engine import TorchEngine

    reference = TorchEngine(bundle, model, "cpu")
    failures: list[str] = []
    precision: Precision = "fp32" if config.precision == "int8" else config.precision
    for way in (None,) if config.to == "pt2" else ways(model):
        try:
            it = _write(bundle, model, config.to, precision, work, way, config.precision == "int8")
        except WorkError as error:
            failures.append(str(error))
            continue
        try:
            check = compare(it, reference, _engine(work), images, LIMITS[precision])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # each engine has its own kinds
            failures.append(f"it does not run ({first_line(error)})")
            continue
        if check.objects == 0 and not check.lone:
            raise InputError(
                "nothing to compare: the model finds no object above 0.05 in these images: name some with objects "
                "with --images"
            )
        if not check.faults:
            for line in check.lines():
                log(line)
            return it, check
        failures.append("; ".join([*check.lines(), *check.faults]))
    raise WorkError(f"the {config.to} file does not agree with the bundle and was not kept: {' / '.join(failures)}")


def _write(
    bundle: Bundle, model: Model, to: Format, precision: Precision, work: Path, way: Any, plain: bool
) -> Exported:
    """Writes a file in fp32 or fp16; ``plain``: as int8 is made from."""
    if to == "pt2":
        return write_pt2(model, bundle, work)
    onnx = work.with_suffix(".onnx")
    it = write_onnx(model, bundle, onnx, way, plain=plain or to == "openvino")
    if to == "openvino":
        it = write_openvino(onnx, work, it)
    if precision == "fp16":
        from fishnet.exporting.quantize import halve_onnx, halve_openvino

        halve = halve_onnx if to == "onnx" else halve_openvino
        halved = work.with_name(f".half-{work.name}")
        halve(work, halved)
        it = _taken(halved, work, replace(it, precision="fp16"))
    return it


def _taken(fresh: Path, work: Path, it: Exported) -> Exported:
    """Puts a file in the place of another, and has it say what it is."""
    rewrite(fresh, it)
    for file, target in zip(_files(fresh), _files(work), strict=True):
        file.replace(target)
    return it


def _engine(path: Path) -> Any:
    if path.suffix == ".pt2":
        from fishnet.runtime.pt2 import open_pt2

        return open_pt2(path, trust=True)  # it was written here, a moment ago
    from fishnet.runtime.engines import open_engine

    return open_engine(path)


@dataclass(frozen=True)
class _Calibration:
    """Images that int8 is fitted to."""

    bundle: Bundle
    part: ImageDataset
    indices: list[int]
    split: str | None

    @classmethod
    def of(cls, bundle: Bundle, config: ExportConfig, splits: Splits) -> "_Calibration":
        """From the data's training part where it has one; to measure on its validation part where it has that."""
        part: ImageDataset = splits.get("train") or next(iter(splits.values()))
        split = config.split or ("val" if "val" in splits else None)
        return cls(bundle, part, _spread(range(len(part)), config.calibration), split)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """(1, channels, height, width) each; images that cannot be read are left out."""
        preprocess = self.bundle.preprocess
        for index in self.indices:
            try:
                image = _tile(self.bundle, self.part.read(index)[0])
            except InputError:
                continue
            yield preprocess.normalize(prepare_input(preprocess, image).pixels[None])


def _quantised(
    bundle: Bundle, it: Exported, config: ExportConfig, work: Path, images: _Calibration, log: Callable[[str], None]
) -> Exported:
    """Turns an fp32 file into an int8 one, if the metric allows."""
    from fishnet.exporting.quantize import quantize_onnx, quantize_openvino
    from fishnet.tasks import get_task

    small = work.with_name(f".small-{work.name}")
    log(f"fitting int8 to {len(images.indices)} images of {config.data}")
    (quantize_onnx if config.to == "onnx" else quantize_openvino)(work, small, images)
    before, after = (_measured(bundle, file, config.data or "", images.split) for file in (work, small))
    it = replace(it, precision="int8", metrics={"fp32": before, "int8": after})
    watched = get_task(bundle.task).monitor
    if not all(watched in values and math.isfinite(values[watched]) for values in (before, after)):
        raise WorkError(
            f"int8: {watched} could not be measured on {config.data} (not a finite number): nothing was kept"
        )
    drop = before[watched] - after[watched]
    log(f"{watched}: {before[watched]:.2f} % in fp32, {after[watched]:.2f} % in int8")
    if drop > config.max_drop:
        raise WorkError(
            f"int8 costs {drop:.2f} points of {watched} (limit {config.max_drop:g}) and was not kept: allow more with "
            "--max-drop, calibrate on more images (--calibration), or stay with fp32 or fp16"
        )
    return _taken(small, work, it)


def _measured(bundle: Bundle, file: Path, data: str, split: str | None) -> dict[str, float]:
    from fishnet.evaluation.evaluate import evaluate
    from fishnet.prediction.predictor import Predictor

    return evaluate(Predictor(bundle, _engine(file)), data, split=split).metrics
