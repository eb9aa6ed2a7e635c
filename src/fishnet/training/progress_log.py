"""Shows the progress of a training: a bar with rate, remaining time and loss, and a line for each epoch."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fishnet.files.terminal import unescaped
from fishnet.training.checkpoints import BundleWriter


class ProgressLog(Callback):
    """Draws a bar on standard error if that is a terminal, and logs a line after each epoch.

    Args:
        epochs: number of epochs of the training.
        batch_size: images per batch, over all processes.
        steps: batches between readings of the loss, for which a GPU has to wait. An epoch's line shows their mean.
        writer: knows which epoch is the best.
        log: is called with each line.
    """

    def __init__(
        self, epochs: int, batch_size: int, steps: int, writer: BundleWriter, log: Callable[[str], None]
    ) -> None:
        self.epochs, self.batch_size, self.steps, self.writer, self.log_line = epochs, batch_size, steps, writer, log
        console = Console(file=unescaped(sys.stderr))
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.start = self.batches = 0.0
        self.losses: list[float] = []  # those that were read in the current epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the bar."""
        if trainer.is_global_zero:
            total = int(trainer.num_training_batches) * self.epochs
            done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
            self.line = self.bar.add_task("", total=total, completed=done, epoch="", rate="-", loss="-")
            self.bar.start()
        self.start, self.batches = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advances the bar."""
        self.batches += 1
        if not trainer.is_global_zero:
            return
        if (batch_idx + 1) % self.steps == 0 and "train/loss" in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.bar.update(
            self.line,
            advance=1,
            epoch=f"{trainer.current_epoch + 1}/{self.epochs}",
            rate=f"{self.rate():,.0f}",
            loss=f"{self.losses[-1]:.4f}" if self.losses else "-",
        )

    def rate(self) -> float:
        """Returns the training images per second since the start; the time includes validation."""
        return self.batches * self.batch_size / max(1e-9, time.monotonic() - self.start)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch's line."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = trainer.callback_metrics
        loss = f"loss {sum(self.losses) / len(self.losses):.4f}  " if self.losses else ""
        self.losses.clear()
        metrics = "  ".join(
            f"{name.removeprefix('val/')} {float(v):.2f}"
            for name, v in values.items()
            if name.startswith("val/") and name != "val/loss"
        )
        best = "  best" if self.writer.epoch == trainer.current_epoch else ""
        number = f"epoch {trainer.current_epoch + 1}/{self.epochs}"
        val_loss = f"val loss {float(values['val/loss']):.4f}"
        self.log_line(f"{number}  {loss}{val_loss}  {metrics}  {self.rate():,.0f} images/s{best}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the bar."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Ends the bar."""
        self.bar.stop()
