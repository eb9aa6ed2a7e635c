"""``fishnet.train``: trains on a task's data and writes a bundle. Importing this imports no torch."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.data.findings import parse_codes
from fishnet.data.rerun import refuse_rerun
from fishnet.errors import InputError
from fishnet.tasks.loading import quick_imports
from fishnet.training.jobs import JOBS, single_job

if TYPE_CHECKING:
    from fishnet.training.fit import Trained

RESUMABLE = (
    "epochs", "device", "devices", "nodes", "workers", "threads", "precision", "on_error", "patience",
    "checkpoint_steps", "log_steps",
)  # fmt: skip


def train(
    task: str,
    data: str | Path | Mapping[str, str | Path] | None = None,
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
    """Trains a model and writes a bundle, as ``fishnet train`` does.

    Args:
        task: ``classify``, ``detect``, ``instances``, ``segment`` or ``panoptic``; or ``joint``, several heads on one
            trunk.
        data: a folder, a file or a name, see docs/data.md. For ``joint`` the data of each head by the head's name;
            heads without a section in the recipe are named after their task: ``{"classify": "a", "segment": "b"}``.
        recipe: the name of a recipe of the package, or a YAML file; by default ``small-data``. For ``joint`` see
            docs/joint.md.
        weights: a checkpoint file or a bundle to start from. Settings that are not given are taken from a bundle: its
            backbone and channels, and for the same task its head and sizes.
        out: the bundle's folder; by default runs/TASK, runs/TASK-2 ...
        resume: the folder of a training to continue, with its own settings.
        dry_run: time a few steps, estimate the cost of the training, and write nothing.
        skip_findings: codes of findings in the data to ignore, see docs/findings.md.
        quiet: no progress bar, no line per epoch.
        log: is called with each line for the user.
        **settings: keys of the recipe, such as ``epochs=10``.

    Returns:
        The bundle's folder, the metrics of its best epoch and the images that could not be read.

    Raises:
        InputError: bad data, settings or weights; see :func:`~fishnet.training.fit.fit`.
        WorkError: the loss is not finite, a file cannot be saved, or a data-loading process died.
    """
    refuse_rerun()
    skip_findings = parse_codes((skip_findings,) if isinstance(skip_findings, str) else skip_findings, "skip_findings")
    out, resume = (None if folder is None else Path(folder) for folder in (out, resume))
    recipe, weights = (None if name is None else str(name) for name in (recipe, weights))
    if resume is not None:
        _check_resume(resume, {"out": out, "recipe": recipe, "weights": weights, **settings})
        if not (resume / "recipe.yaml").is_file():
            raise InputError(f"{resume}: nothing to resume: no training was started there")
        out, recipe = resume, str(resume / "recipe.yaml")
    elif weights is not None and not weights:
        raise InputError("weights: the name is empty: give a checkpoint file or a bundle")
    job = JOBS.get(task, single_job)(task, data, recipe, weights, settings)
    with quick_imports():
        from fishnet.training.fit import fit
        from fishnet.training.processes import find_processes

    processes = find_processes(job.recipe)
    if processes.world > 1 and out is None and not dry_run:
        raise InputError(f"out is missing: {processes.world} processes must agree on a folder")
    with nullcontext(out or _free_folder(task)) if out or dry_run else _new_folder(task) as folder:
        return fit(
            job.make_task(), job.data, job.recipe, folder, weights=weights, resume=resume is not None,
            dry_run=dry_run, quiet=quiet, skip_findings=skip_findings, log=log,
        )  # fmt: skip


def _check_resume(folder: Path, given: dict[str, Any]) -> None:
    """Raises InputError for settings that a resumed training cannot change."""
    for name, value in given.items():
        if value is not None and name not in RESUMABLE and not (name == "out" and value == folder):
            raise InputError(
                f"{name}: resume continues the training in {folder} with its own settings; only "
                f"{', '.join(RESUMABLE)} can change (to start a new training from it: weights={folder})"
            )


def _free_folder(task: str) -> Path:
    """Returns the first of runs/TASK, runs/TASK-2, runs/TASK-3 ... that does not exist."""
    names = (task if number == 1 else f"{task}-{number}" for number in count(1))
    return next(folder for name in names if not (folder := Path("runs") / name).exists())


@contextmanager
def _new_folder(task: str) -> Iterator[Path]:
    """Creates the first free folder at once, so that no other training takes it; removes it if it stays empty."""
    while True:
        folder = _free_folder(task)
        with suppress(FileExistsError):  # another training took it in between
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()
            folder.parent.rmdir()
