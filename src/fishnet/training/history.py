"""The training's log: one CSV row per epoch, and its curves as a picture."""

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

NAME, CURVES = "history.csv", "curves.png"


class History(Callback):
    """Writes ``history.csv``: epoch, step, learning rate, and every logged metric, one row per epoch.

    When a training resumes, rows at or beyond the resumed epoch are dropped first, so that none is doubled.

    Args:
        folder: where the file goes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the rows of the epochs that the resumed training stands on."""
        rows = [row for row in read_history(self.path) if int(row["epoch"]) < trainer.current_epoch]
        _write(self.path, rows)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds this epoch's row."""
        values = {
            name.removesuffix("_epoch"): value.item() if isinstance(value, Tensor) else value
            for name, value in trainer.callback_metrics.items()
            if not name.endswith("_step")
        }
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, **values}
        if trainer.is_global_zero:
            _write(self.path, [*read_history(self.path), row])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``history.csv``, values as text; empty if there is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def draw_curves(folder: Path) -> Path | None:
    """Draws ``curves.png`` from ``history.csv``: losses, metrics and learning rate over epochs.

    Returns:
        The picture's path; None where there is no history yet.
    """
    rows = read_history(folder / NAME)
    if not rows:
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in rows[0] if name not in ("epoch", "step")]
    panels = {
        "loss": [name for name in names if "loss" in name],
        "percent": [name for name in names if "loss" not in name and name != "lr"],
        "learning rate": ["lr"],
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 3.8), layout="constrained")
    epochs = [int(row["epoch"]) + 1 for row in rows]
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for name in columns:
            points = [(epoch, float(row[name])) for epoch, row in zip(epochs, rows, strict=True) if row[name]]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set(xlabel="epoch", title=title)
        axis.grid(alpha=0.3)
        axis.legend()
        axis.xaxis.get_major_locator().set_params(integer=True)
    path = folder / CURVES
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
