"""``fishnet train TASK DATA``."""

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from fishnet.errors import InputError
from fishnet.training.recipe import Recipe, load_recipe

RESUMABLE = ("epochs", "device", "workers", "threads", "precision", "on_error")
app = App(name="train", help="Train a model on your data; leaves a bundle.")


def _flags() -> type:
    """A dataclass of all recipe keys, each optional: what is not given stays as the recipe has it."""
    hints = typing.get_type_hints(Recipe)
    fields = [
        (name, Annotated[hints[name] | None, Parameter(help=field.metadata["help"], negative_iterable=())], None)
        for name, field in Recipe.__dataclass_fields__.items()
    ]
    made = dataclasses.make_dataclass("Flags", fields, frozen=True)
    made.__module__ = __name__
    return made


Flags: Any = _flags()


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
        A folder with one sub-folder per class, a folder with such folders in train/ and val/ (and test/), or the
        sample `fashion-mnist`.
    recipe
        A recipe of the package (quickstart, small-data) or a YAML file. Default: small-data. Every key below overrides
        it.
    weights
        A checkpoint file or a bundle to start from; another number of classes is adapted, and said.
    out
        The bundle's folder; checkpoints and logs go inside. Default: runs/classify, runs/classify-2, ...
    resume
        Go on with the training in this folder, with its own settings; --epochs may make it longer (the schedule of
        the learning rate is then that of the longer training).
    dry_run
        Try one batch of training and one of validation, and write nothing.
    quiet
        No progress bar.
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
    given = {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}
    if resume is not None:
        _check_resume(resume, {"out": out, "recipe": recipe_name, "weights": weights, **given})
        if not (resume / "recipe.yaml").is_file():
            raise InputError(f"{resume}: nothing to resume: no training has begun there")
        out, recipe_name = resume, str(resume / "recipe.yaml")
    recipe = load_recipe(task, recipe_name or "small-data", given)
    out = out or _free_folder(task)
    from fishnet.training.fit import fit

    def tell(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    fitted = fit(
        task, data, recipe, out,
        weights=weights, resume=resume is not None, dry_run=dry_run, quiet=quiet or as_json, tell=tell,
    )  # fmt: skip
    for line in fitted.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"bundle": str(fitted.bundle), "metrics": fitted.metrics, "skipped": list(fitted.skipped)}))
        return
    if dry_run:
        return
    print("best epoch: " + "  ".join(f"{name} {value:.2f}" for name, value in fitted.metrics.items()))
    print(f"curves: {fitted.curves}\nbundle: {fitted.bundle}")


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
