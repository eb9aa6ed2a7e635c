"""``fishnet.train``: from a task, data and settings to a bundle. Importing this imports no torch."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.bundle.bundle import is_bundle, read_bundle
from fishnet.bundle.hub import local
from fishnet.data.findings import parse_codes
from fishnet.data.rerun import refuse_rerun
from fishnet.errors import InputError
from fishnet.recipes.recipe import keys_of, load_recipe
from fishnet.tasks.info import task_info

if TYPE_CHECKING:
    from fishnet.training.fit import Trained

RESUMABLE = (
    "epochs", "device", "devices", "nodes", "workers", "threads", "precision", "on_error", "patience",
    "checkpoint_steps", "log_steps",
)  # fmt: skip
_HEAD_KEYS = (  # what a head is: the shapes of its tensors, and how it makes results of them
    "fpn_channels", "box_width", "box_convs", "mask_width", "head_norm", "anchors", "proposals", "roi_samples",
    "max_detections", "nms_iou", "score_threshold", "decoder_channels", "edges", "auxiliary",
)  # fmt: skip


def train(
    task: str,
    data: str | Path,
    *,
    recipe: str | Path | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    skip_findings: Collection[str] = (),
    quiet: bool = False,
    log: Callable[[str], None] = print,
    **settings: Any,
) -> "Trained":
    """Trains a model and leaves a bundle: what ``fishnet train`` does.

    Args:
        task: ``classify``, ``detect``, ``instances`` or ``segment``.
        data: a folder, a file or a name, see docs/data.md.
        recipe: a recipe of the package, or a YAML file; by default ``small-data``.
        weights: a checkpoint file or a bundle to start from. A bundle brings its backbone and channels, and for the
            same task its sizes, unless others are given.
        out: the bundle's folder; by default runs/TASK, runs/TASK-2 ...
        resume: go on with the training in this folder, with its own settings.
        dry_run: time a few steps, tell what the training would take, and write nothing.
        skip_findings: codes of findings in the data that are passed over, see docs/findings.md.
        quiet: no progress bar, no line for each epoch.
        tell: receives lines for the user.
        **settings: keys of the recipe, such as ``epochs=10``.

    Returns:
        The bundle's folder, the metrics of its best epoch and what could not be read.

    Raises:
        InputError: bad data, settings or weights; see :func:`~fishnet.training.fit.fit`.
        WorkError: the loss is not finite, something cannot be saved, or a reading process died.
    """
    refuse_rerun()
    task_info(task)
    skip_findings = parse_codes((skip_findings,) if isinstance(skip_findings, str) else skip_findings, "skip_findings")
    brought = dict[str, Any]()
    out, resume = (None if place is None else Path(place) for place in (out, resume))
    recipe, weights = (None if name is None else str(name) for name in (recipe, weights))
    if resume is not None:
        _check_resume(resume, {"out": out, "recipe": recipe, "weights": weights, **settings})
        if not (resume / "recipe.yaml").is_file():
            raise InputError(f"{resume}: nothing to resume: no training has begun there")
        out, recipe = resume, str(resume / "recipe.yaml")
    elif weights is not None:
        if not weights:
            raise InputError("--weights: the name is empty: give a checkpoint file or a bundle")
        brought = _shape_of(local(weights), task)
        if "size" in settings or settings.get("native"):  # the bundle's longest side belongs to the bundle's size
            brought.pop("max_size", None)
    loaded = load_recipe(task, recipe or "small-data", settings, brought)
    from fishnet.training.fit import fit
    from fishnet.training.processes import find_processes

    processes = find_processes(loaded)
    if processes.world > 1 and out is None and not dry_run:
        raise InputError(f"{processes.world} processes must agree on a folder: say which with --out DIR")
    with nullcontext(out or _free_folder(task)) if out or dry_run else _new_folder(task) as place:
        return fit(
            task, str(data), loaded, place, weights=weights, resume=resume is not None, dry_run=dry_run, quiet=quiet,
            skip_findings=skip_findings, log=log,
        )  # fmt: skip


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
