"""Runs a training, from the data to the bundle."""

import logging
import shlex
import warnings
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import TensorBoardLogger

from fishnet.bundle.bundle import Bundle, is_bundle
from fishnet.data.base import ImageDataset
from fishnet.data.identity import class_folders
from fishnet.data.workers import WorkerDiedError, watched_workers
from fishnet.errors import InputError, WorkError, first_line
from fishnet.recipes.recipe import Recipe
from fishnet.tasks import get_task
from fishnet.tasks.base import Task
from fishnet.tasks.engine import pick_device
from fishnet.training.checkpoints import (
    AtomicCheckpoints,
    BundleWriter,
    Checkpoints,
    Patience,
    Resumed,
    last_checkpoint_path,
    read_resumed,
    write_atomically,
    writing,
)
from fishnet.training.claim import claimed
from fishnet.training.estimate import estimate
from fishnet.training.history import History, draw_curves
from fishnet.training.plan import Plan, make_plan
from fishnet.training.processes import find_processes, strategy_of
from fishnet.training.progress_log import ProgressLog

RECIPE = "recipe.yaml"
_NOTHING_KEPT = "there was no checkpoint yet, so nothing is kept"
_ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}
_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        bundle: the bundle's folder.
        metrics: the best epoch's metrics on the validation split, in percent, and its ``loss``; empty after a dry run.
        epoch: the best epoch, counted from 1; 0 after a dry run.
        curves: the image of the training curves; None after a dry run and in processes other than the first.
        skipped: one line for each image that could not be read.
        recipe: the settings.
    """

    bundle: Path
    metrics: dict[str, float]
    epoch: int
    curves: Path | None
    skipped: tuple[str, ...]
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "bundle": str(self.bundle),
            "metrics": self.metrics,
            "best_epoch": self.epoch,
            "skipped": list(self.skipped),
        }


def fit(
    task: str | Task,
    data: str,
    recipe: Recipe,
    out: Path,
    *,
    weights: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    skip_findings: Collection[str] = (),
    log: Log = print,
) -> Trained:
    """Trains a task's model and writes a bundle.

    Args:
        task: ``classify`` ..., or a task itself.
        data: see :func:`~fishnet.data.classification.open.open_classification`.
        recipe: the settings.
        out: the bundle's folder; checkpoints and logs go inside it.
        weights: a checkpoint file or a bundle to start from.
        resume: continue from the last checkpoint in ``out``.
        dry_run: time a few steps, estimate the cost of the training, and write nothing.
        quiet: no progress bar, no line per epoch.
        skip_findings: codes of findings that are neither logged nor stop the training, see docs/findings.md.
        log: is called with each line for the user, in the first process.

    Raises:
        InputError: bad data or findings in it; bad weights or settings; ``out`` already holds a training, has none to
            resume, or another process is training in it.
        WorkError: the loss is not finite, a checkpoint or the bundle cannot be saved, or a data-loading process died.
        KeyboardInterrupt: the user interrupted; the last checkpoint can be resumed.
    """
    _silence_lightning()
    processes = find_processes(recipe)
    if processes.rank:
        log = _log_nothing
    writes = not processes.rank and not dry_run
    # Claiming creates the folder. Within the data it could be taken for a class, so it is claimed after _check_apart.
    task = get_task(task).for_recipe(recipe) if isinstance(task, str) else task
    inside = any(out.resolve().is_relative_to(Path(name).resolve()) for name in task.data_names(data))
    late = inside and not out.exists()
    with ExitStack() as claim:
        if writes and not late:
            claim.enter_context(claimed(out, log))
        if not processes.rank:
            _check_out(out, resume)
        resumed = read_resumed(last_checkpoint_path(out)) if resume else Resumed()
        comment = "# " if dry_run else ""  # a dry run's output is a recipe file
        plan = make_plan(
            task, data, recipe, processes, resumed, weights, None if resume else skip_findings,
            lambda line: log(f"{comment}{line}"),
        )  # fmt: skip
        if dry_run:
            _log_estimate(plan, log)
            return Trained(out, {}, 0, None, tuple(sorted(plan.module.broken)), plan.recipe)
        if resume:
            log(_check_resume(data, plan.bundle, recipe, out, resumed, log))
        else:
            for source in task.sources(data, plan.splits).values():
                _check_apart(source.data, source.splits, out)
        if writes and late:
            claim.enter_context(claimed(out, log))
            _check_out(out, resume)
        return _run(plan, data, out, resume, quiet, log)


def _run(plan: Plan, data: str, out: Path, resume: bool, quiet: bool, log: Log) -> Trained:
    """Trains, and draws the curves at the end."""
    recipe, first = plan.recipe, not plan.processes.rank
    if first:
        write_atomically(out / RECIPE, yaml.safe_dump(plan.task.recipe_dict(recipe), sort_keys=False))
    writer = BundleWriter(out, plan.bundle, plan.task.monitor)
    checkpoints = Checkpoints(out, recipe.checkpoint_steps, writer)
    log_steps = recipe.log_steps or max(1, min(50, len(plan.train) // recipe.accumulate // 10))
    # The bundle writer comes before the checkpoints, so that a checkpoint knows its own epoch's best.
    callbacks: list[pl.Callback] = [History(out, log_steps), writer, checkpoints]
    if recipe.patience:
        callbacks.append(Patience(recipe.patience, writer))
    if not quiet:
        callbacks.append(ProgressLog(recipe.epochs, recipe.batch_size, log_steps, writer, log))
    trainer = _trainer(plan, out, callbacks, log_steps)
    _fit(trainer, plan, data, out, resume, checkpoints)
    if trainer.should_stop:
        log(f"stopped early: no improvement for {recipe.patience} epochs")
    if first:
        for line in plan.task.warnings(plan.splits["val"]):
            log(line)
    curves = draw_curves(out) if first else None
    skipped = tuple(sorted(plan.module.broken))
    return Trained(out, writer.metrics, writer.epoch + 1, curves, skipped, recipe)


def _trainer(plan: Plan, out: Path, callbacks: list[pl.Callback], log_steps: int) -> pl.Trainer:
    recipe, processes = plan.recipe, plan.processes
    return pl.Trainer(
        accelerator=_ACCELERATORS[pick_device(recipe.device)],
        devices=processes.devices,
        num_nodes=processes.nodes,
        strategy=strategy_of(recipe, processes),
        precision=_PRECISIONS[recipe.precision],  # type: ignore[arg-type]
        max_epochs=recipe.epochs,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_grad or None,
        callbacks=callbacks,
        logger=TensorBoardLogger(out, name="", version="tensorboard", purge_step=plan.position.step),
        default_root_dir=out,
        log_every_n_steps=log_steps,
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _fit(trainer: pl.Trainer, plan: Plan, data: str, out: Path, resume: bool, checkpoints: Checkpoints) -> None:
    """Runs Lightning's loop. Turns errors and interrupts in it into errors that tell the user how to continue."""
    last = last_checkpoint_path(out)
    words = ["fishnet", "train", plan.task.name, *([data] if data else []), "--resume", str(out)]
    again = f"continue with: {shlex.join(words)}"
    try:
        with writing(out), watched_workers():
            trainer.fit(plan.module, plan.train, plan.val, ckpt_path=last if resume else None, weights_only=True)
    except WorkerDiedError as error:
        raise WorkError(f"{error}; {f'{again} --workers 0' if last.is_file() else _NOTHING_KEPT}") from error
    except SystemExit:  # Lightning raises it to end an interrupted training
        raise KeyboardInterrupt(f"interrupted; {again if last.is_file() else _NOTHING_KEPT}") from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if resume and checkpoints.saved < 0 and not isinstance(error, InputError | WorkError):  # before the first step
            raise InputError(
                f"{last}: cannot be resumed: not a checkpoint of this training, or damaged "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
        raise


def _log_estimate(plan: Plan, log: Log) -> None:
    """Logs the resolved recipe and the estimated cost of the training, as one YAML text."""
    recipe = plan.recipe
    timing = estimate(plan.module, plan.train, plan.val, plan.cost.macs)
    updates = plan.module.updates_per_epoch * recipe.epochs
    images = min(len(plan.train) * recipe.batch_size, len(plan.splits["train"]) * recipe.repeats)
    seconds = timing.seconds(recipe, images, len(plan.splits["val"]), plan.processes.world)
    log(yaml.safe_dump(plan.task.recipe_dict(recipe), sort_keys=False).rstrip())
    for line in (
        f"steps: {len(plan.train):,} per epoch, {updates:,} updates in total",
        f"timed on {plan.module.device} with {timing.images} images per step: {1e3 * timing.train:.1f} ms per image "
        f"to train, {1e3 * timing.val:.1f} to validate, {1e3 * timing.read:.1f} to read",
        f"estimated time: {_duration(seconds)} (processes: {plan.processes.world}, workers per process: "
        f"{recipe.workers}; assumes that a step's time grows with its number of images)",
        "dry run: nothing was written",
    ):
        log(f"# {line}")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _check_resume(data: str, bundle: Bundle, recipe: Recipe, out: Path, resumed: Resumed, log: Log) -> str:
    """Returns a line on where a resumed training stands.

    Raises:
        InputError: the data's classes differ from those of the training, or more epochs are done than the recipe has.
    """
    position = resumed.position
    if position.epoch > recipe.epochs:
        raise InputError(f"epochs={recipe.epochs}: {out} has already trained for {position.epoch} epochs")
    current = {name: head.classes for name, head in bundle.heads.items()}
    for name, stored in resumed.classes.items():
        if stored != current.get(name or next(iter(current))):
            raise InputError(f"{data or name}: its classes are not those of {out} ({', '.join(stored.names[:5])})")
    fingerprint = resumed.data or bundle.data
    if any(value != fingerprint.get(key) for key, value in bundle.data.items() if key.rpartition("/")[2] == "images"):
        log(
            f"{data or 'data'}: these are not the images that {out} was started with: their order differs, and "
            "validation may include images that were trained on"
        )
    if position.epoch == recipe.epochs:
        return f"{out}: all {position.epoch} epochs are done; set epochs higher to train longer"
    within = f" and {position.batches} batches" if position.batches else ""
    return (
        f"continuing after epoch {position.epoch}{within} (step {position.step}), with the learning rates of a "
        f"training of {recipe.epochs} epochs"
    )


def _check_out(out: Path, resume: bool) -> None:
    """Raises InputError for a folder that has nothing to resume, or cannot take a new training."""
    last = last_checkpoint_path(out)
    if resume and not last.is_file():
        raise InputError(f"{out}: nothing to resume: {last} is missing")
    if not resume and (is_bundle(out) or last.is_file()):
        or_resume = ", or continue it with resume" if last.is_file() else ""
        raise InputError(f"{out}: already holds a training: choose another folder as out{or_resume}")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file: out must be a folder")


def _check_apart(data: str, splits: dict[str, ImageDataset], out: Path) -> None:
    """Raises InputError for a folder whose files would be taken for a class or its images."""
    folder = out.resolve()
    for parent in class_folders(data, splits):
        inside = folder.relative_to(parent).parts if folder.is_relative_to(parent) else None
        if inside is not None and not any(part.startswith(".") for part in inside):
            raise InputError(f"{out}: lies in {parent}, whose folders are classes: choose a folder elsewhere as out")


def _log_nothing(line: str) -> None:
    """The log of all processes but the first."""


def _silence_lightning() -> None:
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    # The last warning is torchmetrics': a process may have no image of a head, and metrics are summed over processes.
    known = "does not have many workers|LeafSpec|lr_scheduler.step|was called before the ``update`` method"
    warnings.filterwarnings("ignore", message=f".*({known}).*")
