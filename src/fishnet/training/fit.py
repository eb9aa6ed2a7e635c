"""Training from data to bundle."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from timm.models import get_pretrained_cfg
from timm.optim import list_optimizers
from torch.utils.data import DataLoader

from fishnet.backbone.registry import size_args
from fishnet.bundle import Bundle, is_bundle, read_bundle, write_bundle
from fishnet.data.base import Batch, EpochSampler, LabelledSet, Seeded, Transform, collate
from fishnet.data.labels import Classes
from fishnet.data.open import marks
from fishnet.data.transforms import EvalTransform, TrainTransform
from fishnet.errors import InputError, WorkError, first_line, nearest
from fishnet.preprocess import Preprocess
from fishnet.tasks import get_task
from fishnet.tasks.base import ModelSpec, TaskModel
from fishnet.tasks.engine import pick_device
from fishnet.tasks.store import save_weights, start_from, versions
from fishnet.training.history import History, draw_curves
from fishnet.training.module import Training
from fishnet.training.recipe import Recipe

CHECKPOINTS, RECIPE = "checkpoints", "recipe.yaml"
_GREY = ((0.449,), (0.226,))  # the means of ImageNet's three channels' statistics
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}
_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Fitted:
    """What a training leaves.

    Attributes:
        bundle: the folder.
        metrics: of the best epoch on the validation part, in percent, and its ``loss``.
        curves: the picture of the training's course.
        skipped: one line for each picture that could not be read.
    """

    bundle: Path
    metrics: dict[str, float]
    curves: Path | None
    skipped: tuple[str, ...]


class BundleWriter(Callback):
    """Writes the bundle whenever an epoch is the best so far, so that a training that is killed leaves a good one."""

    def __init__(self, folder: Path, bundle: Bundle, monitor: str) -> None:
        self.folder, self.bundle, self.monitor = folder, bundle, f"val/{monitor}"
        self.best: tuple[float, float] | None = None  # the monitored metric, and less the loss where that is equal
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Remembers the best value over a resume."""
        return {"best": list(self.best or ()), "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best, self.metrics = tuple(state_dict["best"]), state_dict["metrics"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares and writes."""
        assert isinstance(pl_module, Training)
        value = float(trainer.callback_metrics[self.monitor]), -float(trainer.callback_metrics["val/loss"])
        if trainer.sanity_checking or (self.best is not None and value <= self.best):
            return
        self.best = value
        self.metrics = {
            name.removeprefix("val/"): round(float(v), 4)
            for name, v in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if trainer.is_global_zero:
            bundle = Bundle(**{**self.bundle.__dict__, "metrics": self.metrics})
            with _saving(self.folder):
                write_bundle(self.folder, bundle, lambda path: save_weights(pl_module.model, path))


class Bar(RichProgressBar):
    """Lightning's progress bar without its version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """See Lightning."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all: a kill or a full disk leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside the target, then renames."""
        partial = Path(f"{path}.partial")
        try:
            with _saving(path):
                super().save_checkpoint(checkpoint, partial, storage_options)
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _saving(path: Any) -> Iterator[None]:
    """Turns what a full disk raises into a WorkError."""
    try:
        yield
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkError(
            f"{path}: not saved ({reason}): make room; --resume goes on from the last checkpoint"
        ) from error


def preprocess_of(recipe: Recipe) -> Preprocess:
    """The preprocessing that a recipe asks for; published weights bring the statistics they were trained with."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean, std = _RGB if recipe.channels == 3 else _GREY
    config = get_pretrained_cfg(recipe.backbone) if recipe.pretrained and recipe.channels == 3 else None
    if config is not None:
        mean, std = config.mean, config.std
    return Preprocess((recipe.size, recipe.size), recipe.crop_pct, recipe.interpolation, mean, std)


def loader(
    pictures: LabelledSet, transform: Transform, recipe: Recipe, *, shuffle: bool, rank: int = 0, world: int = 1
) -> DataLoader[Batch]:
    """Batches of a picture set; the last, smaller one of an epoch is left out when shuffling."""
    sampler = EpochSampler(len(pictures), shuffle=shuffle, seed=recipe.seed, rank=rank, world=world)
    return DataLoader(
        Seeded(pictures, transform, recipe.seed),  # type: ignore[arg-type]
        batch_size=recipe.batch_size,
        sampler=sampler,
        num_workers=recipe.workers,
        collate_fn=collate,
        drop_last=shuffle and len(sampler) > recipe.batch_size,
        persistent_workers=recipe.workers > 0,
    )


def fit(
    task_name: str,
    data: str,
    recipe: Recipe,
    out: Path,
    *,
    weights: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = print,
) -> Fitted:
    """Trains a task's model and leaves a bundle.

    Args:
        task_name: ``classify`` ...
        data: see :func:`~fishnet.data.open.open_labelled`.
        recipe: the settings.
        out: the bundle's folder; checkpoints and logs go inside it.
        weights: a checkpoint file or a bundle to start from.
        resume: go on from ``out``'s last checkpoint.
        dry_run: run one batch of training and one of validation, and write nothing.
        quiet: no progress bar.
        tell: receives lines for the user.

    Raises:
        InputError: bad data, weights or settings; ``out`` holds a training already, or none to resume.
        WorkError: the loss is not finite, or a checkpoint or the bundle cannot be saved.
        KeyboardInterrupt: the user interrupted; what was saved can be resumed.
    """
    _silence_lightning()
    _check_out(out, resume)
    pick_device(recipe.device)
    optimizers = [str(name) for name in list_optimizers()]
    if recipe.optimizer not in optimizers:
        raise InputError(f"unknown optimizer {recipe.optimizer!r}: {nearest(recipe.optimizer, optimizers)}")
    pl.seed_everything(recipe.seed, verbose=False)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    task = get_task(task_name)
    preprocess = preprocess_of(recipe)
    sets = task.open_data(data, recipe.channels, recipe)
    classes = sets["train"].classes
    if resume:
        tell(_check_resume(data, classes, recipe, out))
    drops = {k: v for k in ("drop_rate", "drop_path_rate") if (v := getattr(recipe, k))}
    lasting = size_args(recipe.backbone, recipe.size)
    spec = ModelSpec(
        recipe.backbone, classes, recipe.channels, recipe.head, {**drops, **lasting}, pretrained=recipe.pretrained
    )
    model = task.build(spec).to(memory_format=torch.channels_last)
    if weights:
        for note in start_from(model, weights):
            tell(note)
    tell(_summary(task_name, model, recipe, sets))
    train_transform = TrainTransform(
        preprocess, crop_scale=recipe.crop_scale, crop_ratio=recipe.crop_ratio, flip=recipe.flip
    )
    train_loader = loader(sets["train"], train_transform, recipe, shuffle=True)
    val_loader = loader(sets["val"], EvalTransform(preprocess), recipe, shuffle=False)
    module = Training(task, model, classes, preprocess, recipe, steps_per_epoch=len(train_loader))
    bundle = Bundle(
        task=task_name,
        backbone=recipe.backbone,
        classes=classes,
        preprocess=preprocess,
        head=recipe.head,
        backbone_args=lasting,
        recipe=recipe.to_dict(),
        data=marks(data, sets),
        versions=versions(),
    )
    if dry_run:
        _dry_trainer(recipe).fit(module, train_loader, val_loader)
        tell("dry run: a batch of training and one of validation went through; nothing was written")
        return Fitted(out, {}, None, tuple(sorted(module.broken)))
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    writer = BundleWriter(out, bundle, task.monitor)
    trainer = _trainer(recipe, out, writer, every=max(1, min(50, len(train_loader) // 10)), quiet=quiet)
    last = out / CHECKPOINTS / "last.ckpt"
    try:
        trainer.fit(module, train_loader, val_loader, ckpt_path=last if resume else None, weights_only=True)
    except SystemExit:  # how Lightning ends an interrupted training
        rest = f"go on with --resume {out}" if last.is_file() else "before the first epoch's end: nothing is kept"
        raise KeyboardInterrupt(f"interrupted; {rest}") from None
    return Fitted(out, writer.metrics, draw_curves(out), tuple(sorted(module.broken)))


def _trainer(recipe: Recipe, out: Path, writer: BundleWriter, *, every: int, quiet: bool) -> pl.Trainer:
    """Lightning's trainer, with a row of history every some steps."""
    # The bundle writer comes before the checkpoint, so that a checkpoint knows its own epoch's best.
    keeper = ModelCheckpoint(
        out / CHECKPOINTS, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator=_ACCELERATORS[pick_device(recipe.device)],
        devices=1,
        precision=_PRECISIONS[recipe.precision],  # type: ignore[arg-type]
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_grad or None,
        callbacks=[History(out, every), writer, keeper, *([] if quiet else [Bar(leave=True)])],
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        default_root_dir=out,
        log_every_n_steps=every,
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _dry_trainer(recipe: Recipe) -> pl.Trainer:
    """A trainer that runs one batch of each part and leaves no file."""
    return pl.Trainer(
        accelerator=_ACCELERATORS[pick_device(recipe.device)],
        devices=1,
        precision=_PRECISIONS[recipe.precision],  # type: ignore[arg-type]
        gradient_clip_val=recipe.clip_grad or None,
        fast_dev_run=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _check_resume(data: str, classes: Classes, recipe: Recipe, out: Path) -> str:
    """Where a resumed training stands; InputError where its classes are not those it began with, or it is over."""
    last = out / CHECKPOINTS / "last.ckpt"
    try:
        behind = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["epoch"] + 1
    except Exception as error:  # torch's readers raise nearly every kind for a damaged file
        raise InputError(f"{last}: damaged: nothing to resume from ({first_line(error)})") from error
    if behind > recipe.epochs:
        raise InputError(f"--epochs {recipe.epochs}: {out} has {behind} epochs behind it")
    try:
        known = read_bundle(out).classes
    except InputError:  # killed while the bundle was written: the next best epoch writes it anew
        known = classes
    if known != classes:
        raise InputError(f"{data}: its classes are not those of {out} ({', '.join(known.names[:5])})")
    if behind == recipe.epochs:
        return f"{out}: all {behind} epochs are done; --epochs N makes the training longer"
    return f"going on after epoch {behind}, with the learning rates of a training of {recipe.epochs} epochs"


def _check_out(out: Path, resume: bool) -> None:
    last = out / CHECKPOINTS / "last.ckpt"
    if resume and not last.is_file():
        raise InputError(f"{out}: nothing to resume: {last} is missing")
    if not resume and (is_bundle(out) or last.is_file()):
        or_resume = f", or go on with --resume {out}" if last.is_file() else ""
        raise InputError(f"{out}: holds a training already: choose another --out{or_resume}")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file: --out must be a folder")


def _summary(task_name: str, model: TaskModel, recipe: Recipe, sets: dict[str, LabelledSet]) -> str:
    from fishnet.analysis.profile import cost

    it = cost(model, (recipe.channels, recipe.size, recipe.size))
    counts = ", ".join(f"{len(pictures):,} {name}" for name, pictures in sets.items())
    return (
        f"{task_name}: {recipe.backbone}, {it.parameters / 1e6:.2f} M parameters, {it.macs / 1e6:,.1f} MMACs at "
        f"{recipe.size} px; {len(sets['train'].classes)} classes; pictures: {counts}"
    )


def _silence_lightning() -> None:
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*(does not have many workers|LeafSpec|lr_scheduler.step).*")
