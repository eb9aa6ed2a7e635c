"""``fishnet predict BUNDLE|FILE SOURCE...``."""

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fishnet.cli.models import load_model
from fishnet.errors import InputError, WorkError
from fishnet.runtime.precision import Precision

if TYPE_CHECKING:
    from fishnet.cli.writers import ImageIds
    from fishnet.prediction.predictor import Predictor
    from fishnet.prediction.results import Result
    from fishnet.prediction.sources import Failure

_BEHIND = 8  # results that wait to be written
_FLAGS = {
    "k": "--top", "threshold": "--threshold", "tile": "--tile", "overlap": "--overlap", "tta": "--tta",
    "panoptic_score": "--panoptic-score", "panoptic_overlap": "--panoptic-overlap", "stuff_area": "--stuff-area",
}  # fmt: skip


def predict(
    bundle: str,
    /,
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: str | None = None,
    overlay: Annotated[bool, Parameter(negative=())] = False,
    as_: Annotated[Literal["table", "jsonl", "csv", "parquet"], Parameter(name=["--as", "--format"])] = "table",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    embed: Path | None = None,
    only: str | None = None,
    top: int | None = None,
    threshold: float | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    tta: Annotated[bool, Parameter(negative=())] = False,
    panoptic_score: float | None = None,
    panoptic_overlap: float | None = None,
    stuff_area: int | None = None,
    ids: Path | None = None,
    shard: str = "1/1",
    part: int = 1000,
    column: str | None = None,
    max_pixels: int | None = None,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Precision = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
) -> int:
    """Predict on images and videos: files, folders, glob patterns, http(s) URLs of images, or - to read a list of these
    from standard input.

    Files that cannot be read are reported at the end, and the exit code is then 1. The frames of a video are separate
    sources: clip.mp4#0, clip.mp4#1 and so on.

    A model with several heads runs once per image for all of them. The output has a key for each head, each head writes
    its files into a folder of its own name, and one overlay shows everything. An option applies to all heads that have
    it.

    Parameters
    ----------
    bundle
        A bundle (the folder that training wrote), or an exported file: .onnx, .xml or .pt2.
    sources
        Files, folders, glob patterns, URLs, or -.
    out
        Folder for predictions.jsonl or predictions.csv, and overlays. Detectors also write coco_results.json (COCO's
        results format) and coco_images.json (its image and category ids); segmenters write masks/NAME.png with class
        ids as pixel values (for a GeoTIFF, NAME.tif with its georeference); panoptic models write panoptic.json and
        panoptic/NAME.png (COCO's panoptic format). Default: print only. With --format parquet also an address of an
        object store, such as s3://bucket/folder.
    overlay
        Save each image or video with its result drawn on it, in --out or else in predictions/.
    as_
        Output format: table, jsonl (one JSON object per line), csv, or parquet: for any number of images, which
        continues where it stopped, see --out, --shard and docs/scale.md.
    as_json
        Same as --as jsonl.
    embed
        File for the embeddings of the images (the features before the last layer): .npy, float32 of shape
        (images, dims), with the sources in FILE.npy.txt; or .parquet with the columns source and embedding.
    only
        Names of the heads to compute, separated by commas. Default: all heads of the model.
    top
        Classifiers: number of classes to print per image. Default: 5.
    threshold
        Detectors, and classifiers with several labels per image: confidence threshold, 0 to 1. Default: the bundle's.
    tile
        Detectors and segmenters: predict large images in square tiles of this side, px of the image, and merge the
        results. Classifiers beside them see the whole image.
    overlap
        Overlap of neighbouring tiles as a fraction of the tile, 0 to 0.9. Default: 0.2.
    tta
        Segmenters: test-time augmentation over three scales, each also flipped: six passes instead of one.
    panoptic_score
        Panoptic models: instances with a lower score become no segment, 0 to 1. Default: the bundle's.
    panoptic_overlap
        Panoptic models: instances of which better ones cover more than this fraction become no segment, 0 to 1.
        Default: the bundle's.
    stuff_area
        Panoptic models: stuff with fewer pixels in the image becomes void. Default: the bundle's.
    ids
        COCO file, such as the annotations, with the image ids for coco_results.json.
    shard
        With --format parquet: which of several shards of the images to predict, NUMBER/COUNT.
    part
        With --format parquet: number of images of each file.
    column
        With --format parquet: column of Parquet sources with the images' bytes. Default: image, bytes, jpg or png.
    max_pixels
        Maximum number of pixels of an image; larger ones are refused. Raise it only for large files that you trust,
        with --tile if images are far larger than in training. Default: 178956970, and at most 1 GB to decode.
    batch_size
        Images or tiles per step. Default: 32, or fewer for whole images above 224 x 224 px.
    device
        Device to compute on. Exported files run on the CPU; .onnx files also on cuda, if onnxruntime supports it.
    precision
        Precision to compute in: fp32, bf16 or fp16. bf16 is faster on CPUs with AMX, for bundles and above all for
        OpenVINO files; where the machine has no bf16, fp32 is used and a line says so. fp16 is for bundles on GPUs.
        auto: fp32, or bf16 for a file that was exported with it.
    trust
        Open a .pt2 file, which can run any code of its author. No other kind of model needs this.
    quiet
        Print only errors; use with --out.
    """
    from fishnet.prediction.sources import find_sources

    output_format = "jsonl" if as_json else as_
    _check_arguments(sources, top, part, batch_size, max_pixels)
    files = [] if output_format == "parquet" else find_sources(sources)
    folder = Path(out) if out is not None else Path("predictions") if overlay else None
    predictor = load_model(bundle, device, precision, trust=trust, only=_heads(only))
    predictor.max_pixels = max_pixels
    options = _options(
        predictor, k=top, threshold=threshold, tile=tile, overlap=overlap, tta=tta or None,
        panoptic_score=panoptic_score, panoptic_overlap=panoptic_overlap, stuff_area=stuff_area,
    )  # fmt: skip
    if output_format == "parquet":
        from fishnet.cli.bulk import predict_parquet

        _check_absent("--format parquet", overlay=overlay or None, embed=embed, ids=ids)
        return predict_parquet(predictor, sources, out, shard, part, column, batch_size, quiet=quiet, options=options)
    failures = _predict_files(predictor, files, output_format, folder, embed, ids, batch_size, overlay, quiet, options)
    if not quiet and output_format == "table":
        print(*(f"saved in {place}\n" for place in (folder, embed) if place is not None), sep="", end="")
    return 1 if failures else 0


def _predict_files(
    predictor: "Predictor",
    files: Sequence[str],
    output_format: str,
    folder: Path | None,
    embed: Path | None,
    ids: Path | None,
    batch_size: int | None,
    overlay: bool,
    quiet: bool,
    options: dict[str, Any],
) -> "list[Failure]":
    """Predicts on files and passes the results to all writers. Returns the failures."""
    from fishnet.cli.embeddings import EmbeddingFile
    from fishnet.cli.writers import Writer

    image_ids = _read_ids(ids, predictor, folder, files)
    with ExitStack() as stack:
        embeddings = stack.enter_context(EmbeddingFile(embed)) if embed is not None else None
        add_embedding = None if embeddings is None else embeddings.add
        results = predictor.stream(files, batch_size, embedding=add_embedding, **options)
        writers: list[Any] = [stack.enter_context(Writer(output_format, folder, quiet))]
        if folder is not None:
            writers += _file_writers(stack, folder, files, predictor, image_ids, overlay)
        return _write(results, writers, folder)


def _check_absent(flag: str, **others: Any) -> None:
    """Raises InputError for options that were given, but do not go with ``flag``."""
    for name, value in others.items():
        if value is not None:
            raise InputError(f"--{name}: not with {flag}")


def _check_arguments(sources: tuple[str, ...], *counts: int | None) -> None:
    """Raises InputError for arguments that are wrong; ``counts`` must be 1 or more."""
    if not sources:
        raise InputError("nothing to predict: name files, folders, patterns, or - for a list on standard input")
    for source in sources:  # only "-" itself may begin with a hyphen
        if source.startswith("-") and source != "-":
            raise InputError(f"unknown option {source}: see fishnet predict --help (a file of that name is ./{source})")
    if any(count is not None and count < 1 for count in counts):
        raise InputError("--top, --part, --batch-size and --max-pixels must be 1 or more")


def _read_ids(
    path: Path | None, predictor: "Predictor", folder: Path | None, sources: Sequence[str]
) -> "ImageIds | None":
    """Reads the file of image ids. Raises InputError if no output uses ids, or if an image has no id."""
    from fishnet.cli.writers import ImageIds, check_ids
    from fishnet.prediction.heads import heads_of

    if path is None:
        return None
    if folder is None or not heads_of(predictor.bundle, "objects"):
        raise InputError(f"--ids {path}: is for coco_results.json, which detectors write with --out")
    image_ids = ImageIds(path)
    check_ids(image_ids, sources)
    return image_ids


def _write(
    results: "Iterable[tuple[str, Result | Failure]]", writers: Sequence[Any], folder: Path | None
) -> "list[Failure]":
    """Passes results to the writers as they come. Prints the failures at the end, and returns them.

    Raises:
        WorkError: no image could be read, so the files in the folder must not be replaced.
    """
    from fishnet.prediction.sources import Failure

    count, failures, written, failed = 0, list[Failure](), deque[Future[None]](), Event()
    with ThreadPoolExecutor(1) as writing:  # beside the network
        for source, result in results:
            if isinstance(result, Failure):
                failures.append(result)
                continue
            count += 1
            written.append(writing.submit(_add, writers, source, result, failed))
            if len(written) > _BEHIND:
                written.popleft().result()
        for future in written:
            future.result()
    for failure in failures:
        print(f"fishnet: {failure.reason}", file=sys.stderr)
    if folder is not None and failures and not count:
        raise WorkError(f"{folder}: nothing written: no image could be read")
    return failures


def _add(writers: Sequence[Any], source: str, result: "Result", failed: Event) -> None:
    """Adds a result, unless an earlier one could not be written."""
    if failed.is_set():
        return
    try:
        for writer in writers:
            writer.add(source, result)
    except BaseException:
        failed.set()
        raise


def _heads(only: str | None) -> list[str] | None:
    """Reads names that are separated by commas."""
    return None if only is None else [name.strip() for name in only.split(",") if name.strip()]


def _file_writers(
    stack: ExitStack,
    folder: Path,
    sources: Sequence[str],
    predictor: "Predictor",
    ids: "ImageIds | None",
    overlay: bool,
) -> list[Any]:
    """Returns the writers of the heads' own files and of overlays. With several heads, each has a folder of its own."""
    from fishnet.cli.panoptic_files import PanopticFiles
    from fishnet.cli.writers import CocoFiles, Masks, OfHead, Overlays
    from fishnet.tasks.info import task_info

    bundle = predictor.bundle
    several = len(bundle.heads) > 1
    writers: list[Any] = []
    for name, head in bundle.heads.items():
        place, output = folder / name if several else folder, task_info(head.task).output
        writer: Any = None
        if output == "objects":
            writer = stack.enter_context(CocoFiles(place, head.classes, ids))
        elif output == "label map":
            writer = Masks(place, sources, head.classes)
        if writer is not None:
            writers.append(OfHead(writer, name) if several else writer)
    if bundle.panoptic is not None:
        writers.append(OfHead(stack.enter_context(PanopticFiles(folder, sources, bundle.panoptic, ids)), None))
    if overlay:
        writers.append(stack.enter_context(Overlays(folder, sources, bundle.preprocess, predictor.max_pixels)))
    return writers


def _options(predictor: "Predictor", **given: Any) -> dict[str, Any]:
    """Returns the options that were given. Raises InputError for an option that no head has."""
    for name, value in given.items():
        if value is not None and name not in predictor.options:
            valid = ", ".join(flag for option, flag in _FLAGS.items() if option in predictor.options)
            tasks = ", ".join(dict.fromkeys(head.task for head in predictor.bundle.heads.values()))
            raise InputError(f"{_FLAGS[name]}: not for a {tasks} model, which has {valid}")
    return {name: value for name, value in given.items() if value is not None}
