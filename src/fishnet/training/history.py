"""The training's log, history.csv, and an image of its curves."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from fishnet.files.writing import atomic_path
from fishnet.training.checkpoints import write_atomically
from fishnet.training.optimise import rate_of

NAME, CURVES = "history.csv", "curves.png"
Row = dict[str, Any]


class History(Callback):
    """Writes ``history.csv``: rows with learning rate and loss within an epoch, and one with all metrics per epoch.

    When a training resumes, rows beyond the resumed step are dropped first, so that none is repeated.

    Args:
        folder: where the file goes.
        steps: steps between rows within an epoch.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.path, self.steps = folder / NAME, steps
        self.updates = 1  # number of updates per epoch
        self.last = 0  # the update of the last row

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drops rows beyond the step that the training starts with."""
        self.last = trainer.global_step
        self.updates = max(1, -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches))
        if trainer.is_global_zero:
            _write(self.path, [row for row in read_history(self.path) if int(row["step"]) <= trainer.global_step])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds a row after the given number of updates, each of which may take several batches."""
        if trainer.global_step % self.steps == 0 and trainer.global_step > self.last:
            self.last = trainer.global_step
            self._add(trainer, {"train/loss": trainer.callback_metrics.get("train/loss")})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch's row."""
        self._add(trainer, {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def _add(self, trainer: pl.Trainer, values: Mapping[str, Tensor | None]) -> None:
        if not trainer.is_global_zero:
            return
        row = {
            "epoch": round(trainer.global_step / self.updates, 4),
            "step": trainer.global_step,
            "lr": _short(rate_of(trainer.optimizers[0])),
            **{name: _short(value.item()) for name, value in values.items() if value is not None},
        }
        _write(self.path, [*read_history(self.path), row])


def _short(value: float) -> float:
    """Rounds to the digits of float32."""
    return float(f"{value:.7g}")


def read_history(path: Path) -> list[Row]:
    """Returns the rows of a ``history.csv``, values as strings; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def draw_curves(folder: Path) -> Path | None:
    """Draws ``curves.png`` from ``history.csv``: losses, metrics and learning rate over epochs.

    Returns:
        The image's path; None if there is no history yet.

    Raises:
        WorkError: the disk is full, or the file cannot be written.
    """
    rows = read_history(folder / NAME)
    if not rows:
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = dict.fromkeys(name for row in rows for name in row if name not in ("epoch", "step"))
    panels = {
        "loss": [name for name in names if "loss" in name],
        "percent": [name for name in names if "loss" not in name and name != "lr"],
        "learning rate": ["lr"],
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 3.8), layout="constrained")
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for name in columns:
            points = [(float(row["epoch"]), float(row[name])) for row in rows if row[name]]
            mark = "o" if name.startswith("val/") else ""
            axis.plot([x for x, _ in points], [y for _, y in points], marker=mark, markersize=4, label=name)
        axis.set(xlabel="epoch", title=title)
        axis.grid(alpha=0.3)
        axis.legend()
    path = folder / CURVES
    try:
        with atomic_path(path) as partial:
            figure.savefig(partial, dpi=110)
    finally:
        plt.close(figure)
    return path
