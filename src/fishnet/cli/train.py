"""``fishnet train TASK DATA``."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from fishnet.cli.flags import Codes, flags_of, given_of
from fishnet.data.findings import parse_codes
from fishnet.errors import InputError
from fishnet.recipes.joint_keys import joint_keys, panoptic_keys
from fishnet.recipes.recipe import keys_of

app = App(name="train", help="Train a model on your data and save it as a bundle.")


@dataclass(frozen=True)
class Options:
    """The options of every training, besides the keys of its recipe."""

    recipe: Annotated[
        str | None,
        Parameter(help="A recipe by name, or a YAML file. Default: small-data. The flags below override its keys."),
    ] = None
    weights: Annotated[
        str | None,
        Parameter(
            help="A checkpoint file, or a bundle of any task, to start from. A bundle also sets the backbone, the "
            "channels, and the kind and widths of heads of the same task, unless you give them. In the same way it "
            "sets sizes and sixteen_bit: for joint and panoptic, the sizes only if it resizes whole images; for other "
            "tasks, both only if it has a head of the task. Tensors that do not fit are reported, and those of the "
            "model are initialized anew."
        ),
    ] = None
    out: Annotated[
        Path | None,
        Parameter(help="Folder for the bundle, checkpoints and logs. Default: runs/TASK, runs/TASK-2, ..."),
    ] = None
    resume: Annotated[
        Path | None,
        Parameter(
            help="Continue the training in this folder with its own settings. --epochs can make it longer; the "
            "learning-rate schedule is then that of the longer training."
        ),
    ] = None
    dry_run: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Time a few steps, print the complete recipe and the estimated time, and write nothing.",
        ),
    ] = False
    skip_findings: Annotated[
        Codes,
        Parameter(
            help="Comma-separated codes of errors in the data to ignore, so that training starts anyway. "
            "docs/findings.md lists them."
        ),
    ] = ()
    quiet: Annotated[bool, Parameter(help="Show no progress bar and no line per epoch.")] = False
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as one JSON object.")] = False


_Options = Annotated[Options, Parameter(name="*")]
_ClassifyFlags, _DetectFlags, _InstancesFlags, _SegmentFlags = (
    flags_of(keys_of(task)) for task in ("classify", "detect", "instances", "segment")
)
_JointFlags = flags_of(joint_keys())
_PanopticFlags = flags_of(panoptic_keys())


@app.command
def classify(
    data: str,
    /,
    *,
    options: _Options = Options(),
    flags: Annotated[_ClassifyFlags, Parameter(name="*")] = _ClassifyFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train a classifier: one label per image, or with --multi-label any number of labels.

    Recipes: small-data, fine-tune, imagenet-2018, imagenet-cosine, imagenet-modern, quickstart.

    Parameters
    ----------
    data
        A folder with one sub-folder per class, or with train/, val/ (and test/) that hold such sub-folders; a table of
        paths and labels (.csv, .tsv, .parquet); `wds/FOLDER` with WebDataset shards; `hfds/NAME` (Hugging Face); or the
        sample dataset `fashion-mnist`. With --multi-label: a table with a column labels or with columns of 0 and 1, or
        annotated objects, such as COCO.
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
    """Train a detector: bounding boxes.

    Recipes: small-data, coco-1x, coco-modern. Heads: faster-rcnn, retinanet, fcos, cascade-rcnn.

    Parameters
    ----------
    data
        COCO (a .json file, or a folder in one of its layouts), Pascal VOC, YOLO (with or without data.yaml), labelme,
        Supervisely, a table of boxes (.csv, .tsv), Open Images, a folder with images/ and masks/, or one folder per
        image. See docs/data.md.
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

    Recipes: small-data, coco-1x, coco-modern. Heads: mask-rcnn, cascade-mask-rcnn, htc.

    Parameters
    ----------
    data
        As for detect, with polygons, run-length encodings or mask images.
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
        A folder with images/ and masks/, Pascal VOC, Cityscapes, ADE20K, COCO, labelme, Supervisely, or one folder per
        image. See docs/data.md.
    """
    _train("segment", data, options, given_of(flags))


@app.command
def panoptic(
    data: str | None = None,
    /,
    *,
    options: _Options = Options(),
    monitor: str | None = None,
    panoptic_score: float | None = None,
    panoptic_overlap: float | None = None,
    stuff_area: int | None = None,
    flags: Annotated[_PanopticFlags, Parameter(name="*")] = _PanopticFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train a panoptic segmenter: countable things and uncountable stuff, with heads instances and segment.

    Recipes: small-data. Heads: mask-rcnn, cascade-mask-rcnn, htc (of the things).

    Parameters
    ----------
    data
        COCO panoptic (a .json file and its PNG files, or a folder), Cityscapes with instance ids, or a folder of
        objects with masks and label maps of stuff. See docs/data.md. Not needed with --resume.
    monitor
        The metric that decides which epoch is best: PQ, SQ or RQ, one of these for things (PQ_th) or for stuff
        (PQ_st), or a metric of one head, such as instances/mask_AP. Default: PQ.
    panoptic_score
        Instances with a lower score become no segment, 0 to 1. Default: 0.5.
    panoptic_overlap
        Instances of which better ones cover more than this fraction become no segment, 0 to 1. Default: 0.5.
    stuff_area
        Stuff with fewer pixels in an image becomes void. Lower it for small images. Default: 4096.
    """
    merging = {"panoptic_score": panoptic_score, "panoptic_overlap": panoptic_overlap, "stuff_area": stuff_area}
    given = {name: value for name, value in {"monitor": monitor, **merging}.items() if value is not None}
    _train("panoptic", data, options, {**given, **given_of(flags)})


@dataclass(frozen=True)
class JointOptions:
    """The options of joint trainings alone."""

    classify: Annotated[str | None, Parameter(help="Data of a head named classify.")] = None
    detect: Annotated[str | None, Parameter(help="Data of a head named detect.")] = None
    instances: Annotated[str | None, Parameter(help="Data of a head named instances.")] = None
    segment: Annotated[str | None, Parameter(help="Data of a head named segment.")] = None
    sampling: Annotated[
        Literal["size", "sqrt"] | None,
        Parameter(
            help="How an epoch draws from the heads' data. size: each image once; sqrt: in proportion to the square "
            "root of the number of images. A recipe file can give a weight for each head."
        ),
    ] = None
    loss_weighting: Annotated[
        Literal["fixed", "uncertainty"] | None,
        Parameter(
            help="Weights of the heads' losses. fixed: from the recipe; uncertainty: a factor for each head is learned "
            "as well."
        ),
    ] = None
    monitor: Annotated[
        str | None,
        Parameter(
            help="The metric that decides which epoch is best: mean, the mean over the heads of one metric each; or "
            "one metric, such as detect/AP."
        ),
    ] = None
    keep_heads: Annotated[
        bool | None,
        Parameter(
            negative=(),
            help="Keep the heads of the bundle given as --weights as they are. Needs --freeze trunk.",
        ),
    ] = None


@app.command
def joint(
    *tasks: str,
    heads: Annotated[JointOptions, Parameter(name="*")] = JointOptions(),
    options: _Options = Options(),
    flags: Annotated[_JointFlags, Parameter(name="*")] = _JointFlags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Train several heads on one trunk, which then predict in one pass.

    An image that several datasets annotate is one sample. A head ignores images that its data does not list; they are
    not negatives.

    Parameters
    ----------
    tasks
        A recipe file with a section for each head, and HEAD=DATA for heads whose data it does not name. See
        docs/joint.md. Not needed with --classify, --detect, --instances and --segment, or with --resume.
    """
    given = {name: value for name, value in vars(heads).items() if value is not None}
    flagged = [(name, given.pop(name)) for name in ("classify", "detect", "instances", "segment") if name in given]
    recipe, named = options.recipe, list[tuple[str, str]]()
    for word in tasks:
        name, equals, path = word.partition("=")
        if Path(word).suffix in (".yaml", ".yml") and not equals:
            if recipe is not None:
                raise InputError(f"{word}: only one recipe can be given, and {recipe} is one")
            recipe = word
        elif equals and path:
            named.append((name, path))
        else:
            raise InputError(f"{word}: give a recipe file (.yaml), or HEAD=DATA")
    data: dict[str, str] = {}
    for name, path in (*named, *flagged):
        if name in data:
            raise InputError(f"{name}: its data is given as {data[name]} and {path}: give only one")
        data[name] = path
    _train("joint", data, replace(options, recipe=recipe), {**given, **given_of(flags)})


def _train(task: str, data: str | dict[str, str] | None, options: Options, given: dict[str, Any]) -> None:
    from fishnet.training.train import train

    def log(line: str) -> None:
        print(line, file=sys.stderr if options.as_json else sys.stdout, flush=True)

    trained = train(
        task, data, recipe=options.recipe, weights=options.weights, out=options.out, resume=options.resume,
        dry_run=options.dry_run, skip_findings=parse_codes(options.skip_findings, "--skip-findings"),
        quiet=options.quiet or options.as_json, log=log, **given,
    )  # fmt: skip
    from fishnet.training.processes import find_processes

    if find_processes(trained.recipe).rank:
        return
    for line in trained.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if options.as_json:
        print(json.dumps(trained.to_dict(), allow_nan=False))
        return
    if options.dry_run:
        return
    if trained.skipped:
        print(f"{len(trained.skipped)} images could not be read and were skipped")
    print(
        f"best epoch: {trained.epoch}  " + "  ".join(f"{name} {value:.2f}" for name, value in trained.metrics.items())
    )
    print(f"curves: {trained.curves}\nbundle: {trained.bundle}")
