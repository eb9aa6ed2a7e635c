"""``fishnet val BUNDLE|FILE DATA``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fishnet.errors import InputError, WorkError


def val(
    bundle: str,
    data: str,
    /,
    *,
    out: Path | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    classes: Annotated[tuple[str, ...], Parameter(negative_iterable=(), consume_multiple=True)] = (),
    batch_size: int | None = None,
    workers: int = 1,
    threshold: float | None = None,
    max_detections: int | None = None,
    difficult: Literal["ignore", "use"] | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    tta: Annotated[bool, Parameter(negative=())] = False,
    max_pixels: int | None = None,
    ignore: Annotated[
        tuple[int | Literal["none"], ...] | None, Parameter(negative_iterable=(), consume_multiple=True)
    ] = None,
    threshold_masks: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Measure a bundle or an exported file on labelled data: metrics, every class, figures, the worst mistakes.

    Writes metrics.json and per_class.csv; of a classifier confusion.csv and .png, reliability.png, most_wrong.csv and
    .png (the twelve mistakes with the highest loss); of a detector precision_recall.png, errors.csv and worst.png; of a
    segmenter confusion.csv and .png, errors.csv and worst.png. Images that cannot be read are named and left out; the
    exit code is then 1.

    Parameters
    ----------
    bundle
        The folder that training wrote, or an exported file: .onnx, .xml or .pt2 (which is run without torch but for the
        last, though data are read with it).
    data
        As for training.
    out
        Folder for all of these. Default: val-SPLIT in the bundle, or FILE-val-SPLIT beside an exported file.
    split
        Which part of the data. Default: test where there is one, else val; where the data has neither, all of it, or
        if the bundle was trained on it, the part that training held out.
    classes
        Names of the classes to measure on, where the bundle knows more; by default all that it knows.
    batch_size
        Images computed at once. Default: 32 of 224 x 224 px, fewer of larger ones. Does not matter with --tile or
        --tta, which take them one by one.
    workers
        Processes that read images. Does not matter with --tile or --tta.
    threshold
        Detectors: score at which precision, recall and F1 are counted. Default: the one with the best F1.
    max_detections
        Detectors: objects of a class and image that count, the best ones. Default: COCO's 100; more for crowds.
    difficult
        Detectors: whether Pascal VOC's objects that are marked difficult count. Default: as in training.
    tile
        Detectors and segmenters: predict images in squares of this side, px of the image, and merge or blend.
    overlap
        Of the tiles, 0 to 0.9. Default: 0.2.
    tta
        Segmenters: the mean over flips and scales of each image, several times as slow.
    max_pixels
        Largest image, px; larger ones are refused. Set it for large files that you trust. Default: 178956970, and no
        more than 1 GB to decode.
    ignore
        Segmenters: ids in the masks that are not measured; none: no others than the format's own. Default: as in the
        training.
    threshold_masks
        Segmenters: masks are black and white, from this number on foreground; 0: ids. Default: as in the training.
    device
        Where to compute. An exported file: on the processor, or an .onnx on cuda where onnxruntime can.
    trust
        Open a .pt2 file, which can run any code that its author put into it. No other kind of model needs this.
    quiet
        No progress bar.
    as_json
        Print one JSON object.
    """
    from fishnet.cli.progress import bar
    from fishnet.tasks.loading import load

    if max_pixels is not None and max_pixels < 1:
        raise InputError("--max-pixels must be 1 or more")

    try:
        from fishnet.evaluation.evaluate import evaluate
    except ModuleNotFoundError as error:  # not also torch alone, where an exported file needs none
        raise InputError(
            f"val reads data and counts with what trains, and {error.name} is missing: "
            "pip install 'fishnet-vision[train]'"
        ) from error
    predictor = load(bundle, device, trust=trust)
    with bar("validating", show=not (quiet or as_json)) as step:
        result = evaluate(
            predictor, data, split=split, classes=classes, batch_size=batch_size, workers=workers, tile=tile,
            overlap=overlap, tta=tta, threshold=threshold, max_detections=max_detections, difficult=difficult,
            ignore=ignore, threshold_masks=threshold_masks, max_pixels=max_pixels, progress=step,
        )  # fmt: skip
    if split is None and result.split == "all" and predictor.bundle.data:
        print(
            f"fishnet: {data} was not recognised as this bundle's training data: all of it is measured (images that "
            "were trained on would flatter the figures)",
            file=sys.stderr,
        )
    for line in result.remarks:
        print(f"fishnet: {line}", file=sys.stderr)
    for line in result.broken:
        print(f"fishnet: left out: {line}", file=sys.stderr)
    if not as_json:
        print(f"{bundle} on {result.images:,} images of {data} ({result.split}):")
        for name, value in result.metrics.items():
            print(f"  {name:<14} {value:6.2f} %")
        if result.report is not None:
            print("", *result.report.lines(), sep="\n")
    folder = out or _folder(Path(bundle), f"val-{result.split}")
    files: list[Path] = []
    try:
        files = result.write(folder)
    except WorkError as error:
        print(f"fishnet: report not written: {error}, or choose another --out", file=sys.stderr)
    if as_json:
        print(
            json.dumps({"bundle": bundle, **result.to_dict(), "files": [str(file) for file in files]}, allow_nan=False)
        )
    elif files:
        print(f"\nsaved in {folder}: {', '.join(file.name for file in files)}")
    return 1 if result.broken or not files else 0


def _folder(model: Path, name: str) -> Path:
    """Where a model's report goes by itself."""
    if model.is_file():  # its whole name: model.onnx and model.xml are two models
        return model.with_name(f"{model.name}-{name}")
    return (model if model.is_dir() else Path()) / name
