"""``fishnet train TASK DATA``."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from fishnet.bundle.bundle import is_bundle, read_bundle
from fishnet.bundle.hub import local
from fishnet.cli.flags import Codes, flags_of, given_of
from fishnet.data.findings import parse_codes
from fishnet.errors import InputError
from fishnet.recipes.recipe import keys_of, load_recipe

RESUMABLE = (
    "epochs", "device", "devices", "nodes", "workers", "threads", "precision", "on_error", "patience",
    "checkpoint_steps", "log_steps",
)  # fmt: skip
_HEAD_KEYS = (  # what a head is: the shapes of its tensors, and how it makes results of them
    "fpn_channels", "box_width", "box_convs", "mask_width", "head_norm", "anchors", "proposals", "samples",
    "detections", "nms", "floor", "decoder_channels", "edges", "auxiliary",
)  # fmt: skip
app = App(name="train", help="Train a model on your data; leaves a bundle.")


@dataclass(frozen=True)
class Options:
    """What every training takes beside its recipe's keys."""

    recipe: Annotated[
        str | None,
        Parameter(help="A recipe of the package, or a YAML file. Default: small-data. Every key below overrides it."),
    ] = None
    weights: Annotated[
        str | None,
        Parameter(
            help="A checkpoint file or a bundle of any task to start from; a bundle brings its backbone and channels, "
            "and for the same task its sizes and what becomes of 16 bits, unless others are given. What does not fit "
            "is new, and this is said."
        ),
    ] = None
    out: Annotated[
        Path | None,
        Parameter(help="The bundle's folder; checkpoints and logs go inside. Default: runs/TASK, runs/TASK-2, ..."),
    ] = None
    resume: Annotated[
        Path | None,
        Parameter(
            help="Go on with the training in this folder, with its own settings; --epochs may make it longer (the "
            "schedule of the learning rate is then that of the longer training)."
        ),
    ] = None
    dry_run: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Time a few steps; print the whole recipe and what the training would take; write nothing.",
        ),
    ] = False
    skip_findings: Annotated[
        Codes,
        Parameter(
            help="Codes of findings in the data that are to be passed over, with commas between: train in spite of "
            "these errors. docs/findings.md lists them."
        ),
    ] = ()
    quiet: Annotated[bool, Parameter(help="No progress bar and no line for each epoch.")] = False
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as one JSON object.")] = False


_Options = Annotated[Options, Parameter(name="*")]
_ClassifyFlags, _DetectFlags, _InstancesFlags, _SegmentFlags = (
    flags_of(task) for task in ("classify", "detect", "instances", "segment")
)


@app.command
def classify(
    data: str,
    /,
    *,
    options: _Options = Options(),
    flags: Annotated[_ClassifyFlags, Parameter(name="*")] = _ClassifyFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train a classifier: one label per picture.

    Recipes: small-data, fine-tune, imagenet-2018, imagenet-cosine, imagenet-modern, quickstart.

    Parameters
    ----------
    data
        A folder with one sub-folder per class, a folder with such folders in train/ and val/ (and test/), a table of
        paths and labels (.csv, .tsv, .parquet), `wds/FOLDER` of WebDataset shards, `hfds/NAME` (Hugging Face), or the
        sample `fashion-mnist`.
    """
    _train("classify", data, options, given_of(flags))


@app.command
def detect(
    data: str,
    /,
    *,
    options: _Options = Options(),
    flags: Annotated[_DetectFlags, Parameter(name="*")] = _DetectFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train a detector: boxes.

    Recipes: small-data, coco-1x, coco-modern. Heads: faster-rcnn, retinanet, fcos, cascade-rcnn.

    Parameters
    ----------
    data
        COCO (a .json file, or a folder in one of its layouts), Pascal VOC, YOLO (data.yaml), or a folder with images/
        and masks/: see docs/data.md.
    """
    _train("detect", data, options, given_of(flags))


@app.command
def instances(
    data: str,
    /,
    *,
    options: _Options = Options(),
    flags: Annotated[_InstancesFlags, Parameter(name="*")] = _InstancesFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train an instance segmenter: boxes and masks.

    Recipes: small-data, coco-1x, coco-modern. Heads: mask-rcnn, cascade-mask-rcnn.

    Parameters
    ----------
    data
        As for detect, with polygons, run-length encodings or mask pictures.
    """
    _train("instances", data, options, given_of(flags))


@app.command
def segment(
    data: str,
    /,
    *,
    options: _Options = Options(),
    flags: Annotated[_SegmentFlags, Parameter(name="*")] = _SegmentFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train a segmenter: a class for every pixel.

    Recipes: small-data, ade20k, cityscapes. Heads: body and fish (FishNet's own), fpn, upernet, deeplabv3plus,
    segformer.

    Parameters
    ----------
    data
        A folder with images/ and masks/, Pascal VOC, Cityscapes, ADE20K, or COCO: see docs/data.md.
    """
    _train("segment", data, options, given_of(flags))


def _train(task: str, data: str, options: Options, given: dict[str, Any]) -> None:
    brought = dict[str, Any]()
    out, recipe_name, weights = options.out, options.recipe, options.weights
    if options.resume is not None:
        _check_resume(options.resume, {"out": out, "recipe": recipe_name, "weights": weights, **given})
        if not (options.resume / "recipe.yaml").is_file():
            raise InputError(f"{options.resume}: nothing to resume: no training has begun there")
        out, recipe_name = options.resume, str(options.resume / "recipe.yaml")
    elif weights is not None:
        if not weights:
            raise InputError("--weights: the name is empty: give a checkpoint file or a bundle")
        brought = _shape_of(local(weights), task)
        if "size" in given or given.get("native"):  # the bundle's longest side belongs to the bundle's size
            brought.pop("max_size", None)
    skip_findings = parse_codes(options.skip_findings, "--skip-findings")
    recipe = load_recipe(task, recipe_name or "small-data", given, brought)
    from fishnet.training.fit import fit
    from fishnet.training.processes import find_processes

    processes = find_processes(recipe)
    if processes.world > 1 and out is None and not options.dry_run:
        raise InputError(f"{processes.world} processes must agree on a folder: say which with --out DIR")

    def tell(line: str) -> None:
        print(line, file=sys.stderr if options.as_json else sys.stdout, flush=True)

    with nullcontext(out or _free_folder(task)) if out or options.dry_run else _new_folder(task) as place:
        fitted = fit(
            task, data, recipe, place, weights=weights, resume=options.resume is not None, dry_run=options.dry_run,
            quiet=options.quiet or options.as_json, skip_findings=skip_findings, tell=tell,
        )  # fmt: skip
    if processes.rank:
        return
    for line in fitted.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if options.as_json:
        print(
            json.dumps(
                {
                    "bundle": str(fitted.bundle),
                    "metrics": fitted.metrics,
                    "best_epoch": fitted.epoch,
                    "skipped": list(fitted.skipped),
                },
                allow_nan=False,
            )
        )
        return
    if options.dry_run:
        return
    if fitted.skipped:
        print(f"{len(fitted.skipped)} pictures could not be read and were skipped")
    print(f"best epoch: {fitted.epoch}  " + "  ".join(f"{name} {value:.2f}" for name, value in fitted.metrics.items()))
    print(f"curves: {fitted.curves}\nbundle: {fitted.bundle}")


def _shape_of(weights: Path, task: str) -> dict[str, Any]:
    """The recipe keys that a bundle's weights fit; none for a checkpoint file. Another task has sizes of its own."""
    if not is_bundle(weights):
        return {}
    bundle = read_bundle(weights)
    brought: dict[str, Any] = {"backbone": bundle.backbone, "channels": bundle.preprocess.channels}
    if bundle.backbone_args.get("norm_layer") == "groupnorm" and "trunk_norm" in keys_of(task):
        brought["trunk_norm"] = "group"
    if bundle.task != task:
        return brought
    brought["head"] = bundle.head
    brought |= {key: bundle.recipe[key] for key in _HEAD_KEYS if key in bundle.recipe and key in keys_of(task)}
    if "end" in bundle.backbone_args:
        brought["end"] = bundle.backbone_args["end"]
    if bundle.preprocess.fit == "native":
        brought["native"] = True
    elif bundle.preprocess.fit == "whole":
        brought["max_size"] = bundle.preprocess.size[1]
    depth = bundle.preprocess.sixteen_bit
    if depth == "stretch" and bundle.preprocess.value_range is None:  # of older versions: each image by its own range
        depth = "stretch-each"
    return {**brought, "size": bundle.preprocess.size[0], "sixteen_bit": depth}


def _check_resume(folder: Path, given: dict[str, Any]) -> None:
    """Raises InputError for what would make another training of the one that goes on."""
    for name, value in given.items():
        if value is not None and name not in RESUMABLE and not (name == "out" and value == folder):
            raise InputError(
                f"--{name.replace('_', '-')}: --resume goes on in {folder} with its own settings; only "
                f"{', '.join(RESUMABLE)} may change (a new training can start from it: --weights {folder})"
            )


def _free_folder(task: str) -> Path:
    """runs/TASK, or runs/TASK-2, -3 ... whichever is the first not taken."""
    names = (task if number == 1 else f"{task}-{number}" for number in count(1))
    return next(folder for name in names if not (folder := Path("runs") / name).exists())


@contextmanager
def _new_folder(task: str) -> Iterator[Path]:
    """The first free folder, made at once, so that no other training takes it; removed where nothing was written."""
    while True:
        folder = _free_folder(task)
        with suppress(FileExistsError):  # another training took it in between
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: something was kept
            folder.rmdir()
            folder.parent.rmdir()
