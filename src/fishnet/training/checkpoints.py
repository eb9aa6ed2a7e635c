"""Writes the checkpoints and the bundle of a training, each completely or not at all."""

import errno
import io
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.callbacks.checkpoint import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fishnet.backbone.archives import load_pickle
from fishnet.bundle.bundle import Bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.bundle.renamed import DATA_KEYS, with_current_keys
from fishnet.errors import InputError, WorkError
from fishnet.files.values import integer
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.store import save_state
from fishnet.training.module import Position, TrainingModule

CHECKPOINTS = "checkpoints"
_DAMAGED = "damaged: nothing to resume from"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def last_checkpoint_path(out: Path) -> Path:
    """Returns the path of the checkpoint that a training in ``out`` resumes from."""
    return out / CHECKPOINTS / "last.ckpt"


@dataclass(frozen=True)
class Resumed:
    """What a training that resumes must know from its checkpoint before it is set up.

    Attributes:
        position: where the training stood.
        classes: the classes of each head by name; empty if the checkpoint does not hold them.
        data: the fingerprint of its data.
        preprocess: its preprocessing; None if the checkpoint does not hold it.
    """

    position: Position = field(default_factory=Position)
    classes: Mapping[str, Classes] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    preprocess: Preprocess | None = None


def read_resumed(path: Path) -> Resumed:
    """Reads a checkpoint's part for :class:`Resumed`.

    Raises:
        InputError: the file is damaged, or not a checkpoint of this project.
    """
    content = _read(path)
    values = content.get("position")
    if not isinstance(values, dict):
        raise InputError(f"{path}: {_DAMAGED} (the position of the training is missing)")
    states = content.get("callbacks")
    state = states.get(BundleWriter.__qualname__) if isinstance(states, dict) else None
    data = state.get("data") if isinstance(state, dict) else None
    try:
        position = Position(**{name: integer(value, str(name), 0, 2**62) for name, value in values.items()})
        if data is None:
            return Resumed(position)
        stored = data["classes"]
        by_head = stored if isinstance(stored, dict) else {"": stored}  # older checkpoints do not name their only head
        classes = {name: Classes.from_list(rows) for name, rows in by_head.items()}
        preprocess = Preprocess.from_dict(data["preprocess"]) if "preprocess" in data else None
        return Resumed(position, classes, with_current_keys(data["marks"], "data", DATA_KEYS), preprocess)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {_DAMAGED} ({type(error).__name__}: {error})") from error


def _read(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's content. Raises InputError if the file is damaged or not a checkpoint."""
    try:
        content = load_pickle(path)
    except InputError as error:
        raise InputError(f"{path}: {_DAMAGED} ({str(error).removeprefix(f'{path}: ')})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: {_DAMAGED} (not a checkpoint)")
    return content


class BundleWriter(Callback):
    """Writes the bundle whenever an epoch is the best so far, so that a killed training leaves a good one."""

    def __init__(self, folder: Path, bundle: Bundle, monitor: str) -> None:
        self.folder, self.bundle, self.monitor = folder, bundle, f"val/{monitor}"
        self.best: tuple[float, float] | None = None  # the monitored metric, and minus the loss to break ties
        self.epoch = -1
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Keeps the best value for a resumed training, and what :func:`read_resumed` reads."""
        classes = {name: head.classes.to_list() for name, head in self.bundle.heads.items()}
        data = {"classes": classes, "marks": self.bundle.data, "preprocess": self.bundle.preprocess.to_dict()}
        return {"best": list(self.best or ()), "epoch": self.epoch, "metrics": self.metrics, "data": data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best, self.epoch = tuple(state_dict["best"]) or None, state_dict["epoch"]
        self.metrics = state_dict["metrics"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the bundle if this epoch is the best so far."""
        assert isinstance(pl_module, TrainingModule)
        if self.monitor not in trainer.callback_metrics:
            raise InputError(
                f"monitor={self.monitor.removeprefix('val/')}: cannot be measured on the validation images: "
                "choose another metric"
            )
        value = float(trainer.callback_metrics[self.monitor]), -float(trainer.callback_metrics["val/loss"])
        if trainer.sanity_checking or (self.best is not None and value <= self.best):
            return
        self.best, self.epoch = value, trainer.current_epoch
        self.metrics = {
            name.removeprefix("val/"): round(float(v), 4)
            for name, v in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        state = pl_module.full_state()
        if trainer.is_global_zero:
            heads = {
                name: replace(head, thresholds=head.thresholds | pl_module.thresholds.get(name, {}))
                for name, head in self.bundle.heads.items()
            }
            bundle = replace(self.bundle, metrics=self.metrics, heads=heads)
            with saving(self.folder):
                write_bundle(self.folder, bundle, lambda path: save_state(state, path))


class Patience(Callback):
    """Stops a training after some epochs without improvement.

    Args:
        epochs: number of epochs without improvement.
        writer: knows which epoch is the best; must come before this callback.
    """

    def __init__(self, epochs: int, writer: BundleWriter) -> None:
        self.epochs, self.writer = epochs, writer

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the training if the best epoch is too far back."""
        trainer.should_stop = trainer.should_stop or trainer.current_epoch - self.writer.epoch >= self.epochs


class Checkpoints(Checkpoint):
    """Keeps two checkpoints: ``last.ckpt``, written at each epoch's end and within epochs, and ``best.ckpt``.

    Args:
        out: the training's folder.
        steps: steps between checkpoints within an epoch; 0 for none.
        writer: knows which epoch is the best.
    """

    def __init__(self, out: Path, steps: int, writer: BundleWriter) -> None:
        self.path, self.steps, self.writer = last_checkpoint_path(out), steps, writer
        self.saved = -1  # the step of the last checkpoint

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the step that the training starts with."""
        self.saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves after the given number of steps, except after an epoch's last batch: that is saved after validation."""
        step, within = trainer.global_step, batch_idx + 1 < trainer.num_training_batches
        if self.steps and step % self.steps == 0 and step > self.saved and within:
            self._save(trainer, pl_module, Position(trainer.current_epoch, batch_idx + 1, step), self.path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves both, the best checkpoint first: after a kill in between, the resumed training repeats the epoch."""
        position = Position(trainer.current_epoch + 1, 0, trainer.global_step)
        if self.writer.epoch != trainer.current_epoch:
            self._save(trainer, pl_module, position, self.path)
            return
        best = self.path.with_name("best.ckpt")
        self._save(trainer, pl_module, position, best)
        if trainer.is_global_zero:
            with saving(self.path):
                _same_file(best, self.path)

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule, position: Position, path: Path) -> None:
        assert isinstance(module, TrainingModule)
        module.position = position
        trainer.save_checkpoint(path)
        self.saved = position.step


def _same_file(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it if the file system has no hard links."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints completely or not at all, and reads them as untrusted files: tensors and plain values only.

    If the process is killed or the disk is full, the previous checkpoint stays.
    """

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Returns a checkpoint's content, on the CPU; Lightning moves what it uses."""
        return _read(Path(path))

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a file beside the target, then renames it."""
        partial = Path(f"{path}.partial")
        try:
            with saving(path):
                partial.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()  # if torch wrote to the file itself, it would hide the error of a full disk
                torch.save(dict(checkpoint), buffer)
                partial.write_bytes(buffer.getbuffer())
                partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file completely or not at all; creates its folder if missing.

    Raises:
        WorkError: the disk is full, or the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8", newline="")
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Hides tracebacks of the thread that writes TensorBoard's files: its errors also reach the training's thread."""
    hook = threading.excepthook
    threading.excepthook = lambda failure: None if isinstance(failure.exc_value, OSError) else hook(failure)
    try:
        yield
    finally:
        threading.excepthook = hook


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Wraps a training: a full disk raises WorkError, whichever file was being written."""
    with _quiet_writers(), saving(out, only=_FULL):
        yield


@contextmanager
def saving(path: Any, only: Collection[int] = ()) -> Iterator[None]:
    """Turns OSErrors of writing into WorkErrors; if ``only`` is given, only those with these error numbers."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        reason = getattr(error, "strerror", None) or error
        advice = "free some space" if error.errno in _FULL else "make it writable"
        raise WorkError(f"{path}: not saved ({reason}): {advice}; resume continues from the last checkpoint") from error
