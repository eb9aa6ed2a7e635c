"""``fishnet train TASK DATA``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from fishnet.bundle import is_bundle, read_bundle
from fishnet.cli.flags import Flags, given_of
from fishnet.errors import InputError
from fishnet.hub import local
from fishnet.training.recipe import load_recipe

RESUMABLE = (
    "epochs", "device", "devices", "nodes", "workers", "threads", "precision", "on_error", "patience",
    "checkpoint_steps", "log_steps",
)  # fmt: skip
app = App(name="train", help="Train a model on your data; leaves a bundle.")


@app.command
def classify(
    data: str,
    /,
    *,
    recipe: str | None = None,
    weights: str | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008
) -> None:
    """Train a classifier: one label per picture.

    Parameters
    ----------
    data
        A folder with one sub-folder per class, a folder with such folders in train/ and val/ (and test/), a table of
        paths and labels (.csv, .tsv, .parquet), `wds/FOLDER` of WebDataset shards, `hfds/NAME` (Hugging Face), or the
        sample `fashion-mnist`.
    recipe
        A recipe of the package (small-data, fine-tune, imagenet-2018, imagenet-cosine, imagenet-modern, quickstart) or
        a YAML file. Default: small-data. Every key below overrides it.
    weights
        A checkpoint file or a bundle to start from; a bundle brings its backbone, size and channels, unless others are
        given. Other classes: the task head is new, and this is said.
    out
        The bundle's folder; checkpoints and logs go inside. Default: runs/classify, runs/classify-2, ...
    resume
        Go on with the training in this folder, with its own settings; --epochs may make it longer (the schedule of
        the learning rate is then that of the longer training).
    dry_run
        Time a few steps; print the whole recipe and what the training would take; write nothing.
    quiet
        No progress bar and no line for each epoch.
    as_json
        Print the result as one JSON object.
    """
    _train("classify", data, recipe, weights, out, resume, dry_run, quiet, as_json, flags)


def _train(
    task: str,
    data: str,
    recipe_name: str | None,
    weights: str | None,
    out: Path | None,
    resume: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    flags: Any,
) -> None:
    given, brought = given_of(flags), dict[str, Any]()
    if resume is not None:
        _check_resume(resume, {"out": out, "recipe": recipe_name, "weights": weights, **given})
        if not (resume / "recipe.yaml").is_file():
            raise InputError(f"{resume}: nothing to resume: no training has begun there")
        out, recipe_name = resume, str(resume / "recipe.yaml")
    elif weights is not None:
        if not weights:
            raise InputError("--weights: the name is empty: give a checkpoint file or a bundle")
        brought = _shape_of(local(weights))
    recipe = load_recipe(task, recipe_name or "small-data", given, brought)
    from fishnet.training.fit import fit
    from fishnet.training.processes import find_processes

    processes = find_processes(recipe)
    if processes.world > 1 and out is None and not dry_run:
        raise InputError(f"{processes.world} processes must agree on a folder: say which with --out DIR")
    out = out or _free_folder(task)

    def tell(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    fitted = fit(
        task, data, recipe, out,
        weights=weights, resume=resume is not None, dry_run=dry_run, quiet=quiet or as_json, tell=tell,
    )  # fmt: skip
    if processes.rank:
        return
    for line in fitted.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if as_json:
        print(
            json.dumps(
                {
                    "bundle": str(fitted.bundle),
                    "metrics": fitted.metrics,
                    "best_epoch": fitted.epoch,
                    "skipped": list(fitted.skipped),
                }
            )
        )
        return
    if dry_run:
        return
    if fitted.skipped:
        print(f"{len(fitted.skipped)} pictures could not be read and were skipped")
    print(f"best epoch: {fitted.epoch}  " + "  ".join(f"{name} {value:.2f}" for name, value in fitted.metrics.items()))
    print(f"curves: {fitted.curves}\nbundle: {fitted.bundle}")


def _shape_of(weights: Path) -> dict[str, Any]:
    """The recipe keys that a bundle's weights fit; none for a checkpoint file."""
    if not is_bundle(weights):
        return {}
    bundle = read_bundle(weights)
    args = {"end": bundle.backbone_args["end"]} if "end" in bundle.backbone_args else {}
    return {
        "backbone": bundle.backbone,
        "size": bundle.preprocess.size[0],
        "channels": bundle.preprocess.channels,
        **args,
    }


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
    number, folder = 1, Path("runs") / task
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{task}-{number}"
    return folder
