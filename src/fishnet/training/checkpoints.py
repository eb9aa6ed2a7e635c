"""What a training leaves on the disk: checkpoints and bundle, each whole or not at all."""

import errno
import io
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from fishnet.errors import InputError, WorkError
from fishnet.files.values import integer
from fishnet.tasks.store import save_state
from fishnet.training.module import Position, TrainingModule

CHECKPOINTS = "checkpoints"
_DAMAGED = "damaged: nothing to resume from"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def last_of(out: Path) -> Path:
    """The checkpoint that a training in ``out`` resumes from."""
    return out / CHECKPOINTS / "last.ckpt"


def read_position(path: Path) -> Position:
    """Where a training stood when a checkpoint was saved.

    Raises:
        InputError: a file that is damaged, or not one of this project's trainings.
    """
    values = _read(path).get("position")
    if not isinstance(values, dict):
        raise InputError(f"{path}: {_DAMAGED} (it does not say where the training stood)")
    try:
        numbers = {name: integer(value, str(name), 0, 2**62) for name, value in values.items()}
        return Position(**numbers)
    except (TypeError, InputError) as error:
        raise InputError(f"{path}: {_DAMAGED} ({error})") from error


def read_data(path: Path) -> tuple[Classes, dict[str, str]] | None:
    """The classes of a checkpoint's training and its data's marks; None where it does not hold them.

    Raises:
        InputError: a file that is damaged, or not one of this project's trainings.
    """
    states = _read(path).get("callbacks")
    state = states.get(BundleWriter.__qualname__) if isinstance(states, dict) else None
    data = state.get("data") if isinstance(state, dict) else None
    if data is None:
        return None
    try:
        return Classes.from_list(data["classes"]), dict(data["marks"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {_DAMAGED} ({type(error).__name__}: {error})") from error


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises InputError for a file that is none, or claims more than it holds."""
    try:
        content = load_pickle(path)
    except InputError as error:
        raise InputError(f"{path}: {_DAMAGED} ({str(error).removeprefix(f'{path}: ')})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: {_DAMAGED} (it is no checkpoint)")
    return content


class BundleWriter(Callback):
    """Writes the bundle whenever an epoch is the best so far, so that a training that is killed leaves a good one."""

    def __init__(self, folder: Path, bundle: Bundle, monitor: str) -> None:
        self.folder, self.bundle, self.monitor = folder, bundle, f"val/{monitor}"
        self.best: tuple[float, float] | None = None  # the monitored metric, and less the loss where that is equal
        self.epoch = -1
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Remembers the best value over a resume, and what the training learns from; see :func:`read_data`."""
        data = {"classes": self.bundle.classes.to_list(), "marks": self.bundle.data}
        return {"best": list(self.best or ()), "epoch": self.epoch, "metrics": self.metrics, "data": data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best, self.epoch = tuple(state_dict["best"]) or None, state_dict["epoch"]
        self.metrics = state_dict["metrics"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares and writes."""
        assert isinstance(pl_module, TrainingModule)
        value = float(trainer.callback_metrics[self.monitor]), -float(trainer.callback_metrics["val/loss"])
        if trainer.sanity_checking or (self.best is not None and value <= self.best):
            return
        self.best, self.epoch = value, trainer.current_epoch
        self.metrics = {
            name.removeprefix("val/"): round(float(v), 4)
            for name, v in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        state = pl_module.whole_state()
        if trainer.is_global_zero:
            bundle = Bundle(**{**self.bundle.__dict__, "metrics": self.metrics})
            with saving(self.folder):
                write_bundle(self.folder, bundle, lambda path: save_state(state, path))


class Patience(Callback):
    """Ends a training after some epochs without a better one, by the bundle's idea of better.

    Args:
        epochs: how many.
        writer: knows which epoch is the best; must come before.
    """

    def __init__(self, epochs: int, writer: BundleWriter) -> None:
        self.epochs, self.writer = epochs, writer

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts."""
        trainer.should_stop = trainer.should_stop or trainer.current_epoch - self.writer.epoch >= self.epochs


class Checkpoints(Checkpoint):
    """Keeps two checkpoints: ``last.ckpt``, of each epoch's end and of every some steps, and ``best.ckpt``.

    Args:
        out: the training's folder.
        every: steps between checkpoints within an epoch; 0 for none.
        writer: knows which epoch is the best.
    """

    def __init__(self, out: Path, every: int, writer: BundleWriter) -> None:
        self.path, self.every, self.writer = last_of(out), every, writer
        self.saved = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to count."""
        self.saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves every some steps, but not at an epoch's last: its end is saved after the validation."""
        step, within = trainer.global_step, batch_idx + 1 < trainer.num_training_batches
        if self.every and step % self.every == 0 and step > self.saved and within:
            self._save(trainer, pl_module, Position(trainer.current_epoch, batch_idx + 1, step), self.path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves; the best first, so that a kill in between is made good by the epoch's repetition."""
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
    """Gives a file a second name, or a copy where the file system has no such links."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all: a kill or a full disk leaves the previous one. They are read as files
    that nobody vouches for: tensors and plain values alone."""

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint's content, on the CPU; Lightning moves what it takes of it."""
        return _read(Path(path))

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside the target, and nowhere else, then renames."""
        partial = Path(f"{path}.partial")
        try:
            with saving(path):
                partial.parent.mkdir(parents=True, exist_ok=True)
                whole = io.BytesIO()  # to a file, torch's writer would hide what a full disk raises
                torch.save(dict(checkpoint), whole)
                partial.write_bytes(whole.getbuffer())
                partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a small file whole or not at all; its folder is made if missing.

    Raises:
        WorkError: a full disk, or a place that cannot be written to.
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
    """No traceback from the thread that writes TensorBoard's files: what ends it reaches the training's own thread."""
    own = threading.excepthook
    threading.excepthook = lambda told: None if isinstance(told.exc_value, OSError) else own(told)
    try:
        yield
    finally:
        threading.excepthook = own


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Around a training: a full disk is a WorkError, whichever of its files met it."""
    with _quiet_writers(), saving(out, only=_FULL):
        yield


@contextmanager
def saving(path: Any, only: Collection[int] = ()) -> Iterator[None]:
    """Turns what a full disk raises into a WorkError; where ``only`` names error numbers, no other errors."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        reason = getattr(error, "strerror", None) or error
        advice = "make room" if error.errno in _FULL else "make it writable"
        raise WorkError(f"{path}: not saved ({reason}): {advice}; --resume goes on from the last checkpoint") from error
