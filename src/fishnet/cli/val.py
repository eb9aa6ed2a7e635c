"""``fishnet val BUNDLE|FILE DATA``."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from fishnet.cli.models import load_model
from fishnet.errors import InputError, WorkError
from fishnet.runtime.precision import Precision

if TYPE_CHECKING:
    from fishnet.evaluation.evaluate import Evaluation
    from fishnet.evaluation.joint import JointEvaluation
    from fishnet.evaluation.panoptic import PanopticEvaluation


def val(
    bundle: str,
    /,
    *data: str,
    out: Path | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    classes: Annotated[
        tuple[str, ...], Parameter(negative_iterable=(), consume_multiple=True, show_default=False)
    ] = (),
    batch_size: int | None = None,
    workers: int = 1,
    threshold: float | None = None,
    max_detections: int | None = None,
    difficult: Literal["ignore", "use"] | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    tta: Annotated[bool, Parameter(negative=())] = False,
    max_pixels: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    ignore: Annotated[
        tuple[int | Literal["none"], ...] | None, Parameter(negative_iterable=(), consume_multiple=True)
    ] = None,
    threshold_masks: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Precision = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Evaluate a bundle or an exported file on labelled data: metrics, per-class results, figures, worst mistakes.

    Writes metrics.json and per_class.csv for every task. Also writes confusion.csv and .png, reliability.png, and
    most_wrong.csv and .png (the twelve mistakes with the highest loss) for a classifier; precision_recall.png,
    errors.csv and worst.png for a detector; confusion.csv and .png, errors.csv and worst.png for a segmenter; and
    panoptic_per_class.csv for a panoptic model. For a classifier of several labels per image, only most_wrong.csv and
    .png are written in addition. Each of several heads has a folder of its own. Images that cannot be read are reported
    and left out, and the exit code is then 1.

    Parameters
    ----------
    bundle
        A bundle (the folder that training wrote), or an exported file: .onnx, .xml or .pt2. Reading data needs torch,
        whichever engine runs the model.
    data
        Labelled data, as for training. For a bundle with several heads: HEAD=DATA for each head to evaluate, or the
        one dataset of a panoptic model. Default: the data that each head was trained with.
    out
        Folder for the files. Default: val-SPLIT in the bundle, or FILE-val-SPLIT beside an exported file.
    split
        Split to evaluate on. Default: test if there is one, else val. If the data has neither: the images that training
        held out, if the bundle was trained on this data, else all images.
    classes
        Names of the classes to evaluate on. Default: all classes of the bundle.
    batch_size
        Batch size. Default: 32 at 224 x 224 px, fewer for larger images. Has no effect with --tile or --tta, which take
        images one by one.
    workers
        Processes that load images. Has no effect with --tile or --tta.
    threshold
        Detectors: confidence threshold for precision, recall and F1. Default: the one with the best F1. Classifiers
        with several labels per image: the threshold of all labels. Default: the bundle's for each label.
    max_detections
        Detectors: maximum number of detections per class and image that count, highest scores first. Default: 100, as
        for COCO.
    difficult
        Detectors: whether Pascal VOC objects marked difficult count. Default: as in training.
    tile
        Detectors and segmenters: predict images in square tiles of this side, px of the image, and merge the results.
    overlap
        Overlap of neighbouring tiles as a fraction of the tile, 0 to 0.9. Default: 0.2.
    tta
        Segmenters: test-time augmentation over flips and scales; several times as slow.
    max_pixels
        Maximum number of pixels of an image; larger ones are refused. Raise it only for large files that you trust.
        Default: 178956970, and at most 1 GB to decode.
    ignore
        Segmenters: mask ids to ignore; none: ignore only the format's own. Default: as in training.
    threshold_masks
        Segmenters: binarize masks: pixels with a value of at least this threshold are foreground, all others
        background; 0: masks contain class ids. Default: as in training.
    device
        Device to compute on. Exported files run on the CPU; .onnx files also on cuda, if onnxruntime supports it.
    precision
        Precision to compute in: fp32, bf16 or fp16. bf16 is faster on CPUs with AMX, for bundles and above all for
        OpenVINO files; where the machine has no bf16, fp32 is used and a line says so. fp16 is for bundles on GPUs.
        auto: fp32, or bf16 for a file that was exported with it.
    trust
        Open a .pt2 file, which can run any code of its author. No other kind of model needs this.
    quiet
        Show no progress bar.
    as_json
        Print one JSON object.
    """
    from fishnet.cli.progress import bar

    evaluate, predictor = _import_evaluate(), load_model(bundle, device, precision, trust=trust)
    with bar("evaluating", show=not (quiet or as_json)) as step:
        result = evaluate(
            predictor, _sources(data, tuple(predictor.bundle.heads)), split=split, classes=classes,
            batch_size=batch_size, workers=workers, tile=tile, overlap=overlap, tta=tta, threshold=threshold,
            max_detections=max_detections, difficult=difficult, ignore=ignore,
            threshold_masks=threshold_masks, max_pixels=max_pixels, progress=step,
        )  # fmt: skip
    evaluations: Mapping[str, Evaluation] = getattr(result, "heads", {"": result})
    _print_warnings(evaluations.values())
    if not as_json:
        _print_results(result, evaluations, bundle)
    splits = "-".join(dict.fromkeys(evaluation.split for evaluation in evaluations.values()))
    folder = out or _folder(Path(bundle), f"val-{splits}")
    files = _write(result, folder)
    if as_json:
        print(json.dumps({"bundle": bundle, **result.to_dict(), "files": list(map(str, files))}, allow_nan=False))
    elif files:
        print(f"\nsaved in {folder}: {', '.join(str(file.relative_to(folder)) for file in files)}")
    return 1 if result.broken or not files else 0


def _sources(words: Sequence[str], heads: Sequence[str]) -> str | dict[str, str] | None:
    """The data to evaluate on, from the arguments: one dataset, or HEAD=DATA for some heads; None for none.

    Raises:
        InputError: several datasets without the names of their heads.
    """
    named = dict(word.split("=", 1) for word in words if word.partition("=")[0] in heads and "=" in word)
    if len(named) == len(words) and words:
        return named
    if len(words) > 1:
        other = next(word for word in words if word.partition("=")[0] not in named)
        raise InputError(f"{other}: give one dataset, or HEAD=DATA with one of the heads {', '.join(heads)}")
    return words[0] if words else None


def _import_evaluate() -> "Callable[..., Evaluation | JointEvaluation]":
    try:
        from fishnet.evaluation.evaluate import evaluate
    except ModuleNotFoundError as error:  # names the extra, because the missing package alone is not enough
        raise InputError(
            f"val needs the packages of training, and {error.name} is missing: pip install 'fishnet-vision[train]'"
        ) from error
    return evaluate


def _print_warnings(evaluations: "Iterable[Evaluation]") -> None:
    """Prints warnings and unreadable images to standard error."""
    for result in evaluations:
        for line in result.warnings:
            print(f"fishnet: {line}", file=sys.stderr)
        for line in result.broken:
            print(f"fishnet: left out: {line}", file=sys.stderr)


def _print_metrics(result: "Evaluation", bundle: str) -> None:
    print(f"{bundle} on {result.images:,} images of {result.data} ({result.split}):")
    for name, value in result.metrics.items():
        print(f"  {name:<14} {value:6.2f} %")
    if result.report is not None:
        print("", *result.report.lines(), sep="\n")


def _print_results(
    result: "Evaluation | JointEvaluation", evaluations: "Mapping[str, Evaluation]", bundle: str
) -> None:
    """Prints the metrics of each head, after those of panoptic segments."""
    _print_panoptic(getattr(result, "panoptic", None), bundle)
    for name, evaluation in evaluations.items():
        _print_metrics(evaluation, f"{bundle}: {name}" if name else bundle)


def _print_panoptic(result: "PanopticEvaluation | None", bundle: str) -> None:
    """Prints the quality of a panoptic model's segments."""
    if result is None:
        return
    for line in result.broken:
        print(f"fishnet: left out: {line}", file=sys.stderr)
    print(f"{bundle} on {result.images:,} images of {result.data} ({result.split}):")
    for name, value in result.metrics.items():
        print(f"  {name:<14} {value:6.2f} %")
    print("", *result.lines(), sep="\n")


def _write(result: "Evaluation | JointEvaluation", folder: Path) -> list[Path]:
    """Writes the report and returns its files. If it cannot be written, prints the reason and returns no files."""
    try:
        return result.write(folder)
    except WorkError as error:
        print(f"fishnet: report not written: {error}, or choose another --out", file=sys.stderr)
        return []


def _folder(model: Path, name: str) -> Path:
    """Returns the default folder of a model's report."""
    if model.is_file():  # the suffix stays in the name, because model.onnx and model.xml are two models
        return model.with_name(f"{model.name}-{name}")
    return (model if model.is_dir() else Path()) / name
