"""``fishnet predict BUNDLE|FILE SOURCE...``."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fishnet.errors import InputError

if TYPE_CHECKING:
    from fishnet.cli.writers import ImageIds
    from fishnet.prediction.predictor import Predictor

_FLAGS = {"k": "--top", "threshold": "--threshold", "tile": "--tile", "overlap": "--overlap", "tta": "--tta"}


def predict(
    bundle: str,
    /,
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: Path | None = None,
    overlay: Annotated[bool, Parameter(negative=())] = False,
    as_: Annotated[Literal["table", "jsonl", "csv"], Parameter(name="--as")] = "table",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    embed: Path | None = None,
    top: int | None = None,
    threshold: float | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    tta: Annotated[bool, Parameter(negative=())] = False,
    ids: Path | None = None,
    max_pixels: int | None = None,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
) -> int:
    """Predict images and videos: files, folders, glob patterns, http(s) addresses of images, or - for a list of these
    on standard input.

    Files that cannot be read are reported at the end and the rest is finished; the exit code is then 1. A video's
    frames are sources of their own, clip.mp4#0, clip.mp4#1 and so on.

    Parameters
    ----------
    bundle
        The folder that training wrote, or an exported file: .onnx, .xml or .pt2.
    sources
        What to predict.
    out
        Folder for overlays, for predictions.jsonl / predictions.csv, for what detects or finds instances also
        coco_results.json (COCO's results list) and coco_images.json (its image and category ids), and for what segments
        masks/NAME.png, the classes' ids as pixels (for a GeoTIFF NAME.tif with its
        georeference). Default: print only.
    overlay
        Save each image, or video, with its result drawn on it, into --out or else into predictions/.
    as_
        How to print: table, jsonl (one JSON object a line) or csv.
    as_json
        The same as --as jsonl.
    embed
        File for the images' embeddings (what the network knows of each before its last layer): .npy, float32 of shape
        (images, dims) with the sources in FILE.npy.txt, or .parquet with the columns source and embedding.
    top
        Classify: how many classes to give per image. Default: 5.
    threshold
        Detect, instances: the least score, 0 to 1. Default: the bundle's.
    tile
        Detect, instances, segment: predict large images in squares of this side, px of the image, and merge what
        lies on their seams, or blend it.
    overlap
        Of tiles, the share that the next one sees too, 0 to 0.9. Default: 0.2.
    tta
        Segment: average over three scales, each also mirrored: six passes instead of one.
    ids
        A COCO file, such as the annotations: coco_results.json takes the image ids of the images named there.
    max_pixels
        Largest image, px; larger ones are refused. Set it for large files that you trust, with --tile where images are
        far larger than those of the training. Default: 178956970, and no more than 1 GB to decode.
    batch_size
        Images a step, or tiles. Default: 32, or of whole images as many as have as many pixels.
    device
        Where to compute. An exported file: on the processor, or an .onnx on cuda where onnxruntime can.
    trust
        Open a .pt2 file, which can run any code that its author put into it. No other kind of model needs this.
    quiet
        Print nothing but errors (with --out).
    """
    from fishnet.cli.embeddings import EmbeddingFile
    from fishnet.cli.writers import ImageIds, Writer, check_ids
    from fishnet.prediction.sources import Failure, find_sources
    from fishnet.tasks.loading import load

    _check_words(sources)
    if any(number is not None and number < 1 for number in (top, batch_size, max_pixels)):
        raise InputError("--top, --batch-size and --max-pixels must be 1 or more")
    form = "jsonl" if as_json else as_
    files = find_sources(sources)
    folder = out or (Path("predictions") if overlay else None)
    predictor = load(bundle, device, trust=trust)
    predictor.max_pixels = max_pixels
    options = _options(predictor, k=top, threshold=threshold, tile=tile, overlap=overlap, tta=tta or None)
    if ids is not None and (folder is None or "threshold" not in predictor.options):
        raise InputError(f"--ids {ids}: goes into coco_results.json, which comes with --out from what finds objects")
    image_ids = ImageIds(ids) if ids is not None else None
    if image_ids is not None:
        check_ids(image_ids, files)
    failures = []
    with ExitStack() as stack:
        embeddings = stack.enter_context(EmbeddingFile(embed)) if embed is not None else None
        keep = None if embeddings is None else embeddings.add
        results = predictor.stream(files, batch_size, embedding=keep, **options)
        writers: list[Any] = [stack.enter_context(Writer(form, folder, quiet))]
        if folder is not None:
            writers += _files(stack, folder, files, predictor, image_ids, overlay)
        for source, result in results:
            if isinstance(result, Failure):
                failures.append(result)
                continue
            for writer in writers:
                writer.add(source, result)
        for failure in failures:
            print(f"fishnet: {failure.reason}", file=sys.stderr)
    if not quiet and form == "table":
        for place in (folder, embed):
            if place is not None:
                print(f"saved in {place}")
    return 1 if failures else 0


def _check_words(sources: tuple[str, ...]) -> None:
    if not sources:
        raise InputError("nothing to predict: name files, folders, patterns, or - for a list on standard input")
    for source in sources:  # a leading hyphen is let through for the sake of "-" alone
        if source.startswith("-") and source != "-":
            raise InputError(f"unknown option {source}: see fishnet predict --help (a file of that name is ./{source})")


def _files(
    stack: ExitStack,
    folder: Path,
    sources: Sequence[str],
    predictor: "Predictor",
    ids: "ImageIds | None",
    overlay: bool,
) -> list[Any]:
    """What writes the files of a task's own, and overlays."""
    from fishnet.cli.writers import CocoFiles, Masks, Overlays
    from fishnet.tasks.info import task_info

    bundle = predictor.bundle
    writers: list[Any] = []
    output = task_info(bundle.task).output
    if output == "objects":
        writers.append(stack.enter_context(CocoFiles(folder, bundle.classes, ids)))
    if output == "label map":
        writers.append(Masks(folder, sources, bundle.classes))
    if overlay:
        writers.append(stack.enter_context(Overlays(folder, sources, bundle.preprocess, predictor.max_pixels)))
    return writers


def _options(predictor: "Predictor", **given: Any) -> dict[str, Any]:
    """What was given of the task's options; one of another task's is an error."""
    for name, value in given.items():
        if value is not None and name not in predictor.options:
            theirs = ", ".join(flag for option, flag in _FLAGS.items() if option in predictor.options)
            raise InputError(f"{_FLAGS[name]}: not for a model that does {predictor.bundle.task}: this has {theirs}")
    return {name: value for name, value in given.items() if value is not None}
