"""The Lightning side of a training. Knows Task, and no task by name."""

from typing import Any

import pytorch_lightning as pl
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor
from torchmetrics import MeanMetric

from fishnet.data.base import Batch, mix
from fishnet.data.labels import Classes
from fishnet.data.transforms import Normalise
from fishnet.errors import InputError, WorkError
from fishnet.preprocess import Preprocess
from fishnet.tasks.base import Task, TaskModel
from fishnet.training.recipe import Recipe

_SCHEDULES = {"cosine": "cosine", "step": "step", "constant": "step"}


class Training(pl.LightningModule):
    """One task's model under one recipe.

    Args:
        task, model, classes: what is trained.
        preprocess: how pictures become input; batches arrive as uint8 and are normalised here.
        recipe: the settings.
        steps_per_epoch: optimiser steps in one pass.
    """

    def __init__(
        self,
        task: Task,
        model: TaskModel,
        classes: Classes,
        preprocess: Preprocess,
        recipe: Recipe,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self.task, self.model, self.recipe, self.steps_per_epoch = task, model, recipe, steps_per_epoch
        self.normalise = Normalise(preprocess)
        self.metrics = task.metrics(classes)
        self.val_loss = MeanMetric()
        self.broken: set[str] = set()
        self.read = 0  # pictures of the running pass, over the training or the validation part

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The schedule is this recipe's: a resumed training may have more epochs than the one that was saved."""
        checkpoint["lr_schedulers"] = []

    def on_train_start(self) -> None:
        """Sets the learning rate of the step that the training starts or goes on with."""
        self.lr_scheduler_step(self.lr_schedulers(), None)

    def on_train_epoch_start(self) -> None:
        """Counts from 0."""
        self.read = 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and the like draw from (seed, step), so that a resumed run repeats them."""
        torch.manual_seed(mix(self.recipe.seed, self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """One step's loss; None for a batch without a readable picture."""
        self._account(batch)
        if not batch.indices:
            return None
        losses = self.task.losses(self.model(self.normalise(batch.images)), batch.targets, self.recipe)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            self._stop_at_nan(loss, batch)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch.indices))
        return loss

    def _account(self, batch: Batch) -> None:
        if batch.broken and self.recipe.on_error == "stop":
            raise InputError(f"{batch.broken[0]}; mend or remove it, or train with --on-error skip")
        self.broken.update(batch.broken)
        self.read += len(batch.indices)

    def _check_read(self, part: str) -> None:
        """Raises InputError where no picture of a whole pass could be read."""
        if not self.read:
            raise InputError(f"no picture of the {part} part could be read; first: {min(self.broken, default='none')}")

    def _stop_at_nan(self, loss: Tensor, batch: Batch) -> None:
        place = f"{self.trainer.default_root_dir}/nan-batch.pt"
        torch.save({"images": batch.images, "targets": batch.targets, "indices": batch.indices}, place)
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        raise WorkError(
            f"the loss became {loss.item()} at step {self.global_step} (learning rate {rate:.3g}); the batch is "
            f"saved as {place}; try a lower --lr, a longer --warmup-epochs or --clip-grad 5"
        )

    def on_validation_epoch_start(self) -> None:
        """Ends a training that had nothing to learn from; counts from 0."""
        self._check_read("train")
        self.read = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Feeds the metrics."""
        self._account(batch)
        if not batch.indices:
            return
        outputs = self.model(self.normalise(batch.images))
        self.metrics.update(outputs, batch.targets)
        losses = self.task.losses(outputs, batch.targets, self.recipe)
        self.val_loss.update(torch.stack(list(losses.values())).sum(), weight=len(batch.indices))

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss`` and the task's metrics, in percent."""
        self._check_read("val")
        values = {name: 100 * value for name, value in self.metrics.compute().items()}
        self.log("val/loss", self.val_loss.compute())
        self.log_dict({f"val/{name}": value for name, value in values.items()}, prog_bar=True)
        self.metrics.reset()
        self.val_loss.reset()

    def configure_optimizers(self) -> Any:
        """timm's optimiser and per-step schedule."""
        recipe = self.recipe
        try:
            optimizer = create_optimizer_v2(
                self.model,
                opt=recipe.optimizer,
                lr=recipe.lr,
                weight_decay=recipe.weight_decay,
                momentum=recipe.momentum,
                filter_bias_and_bn=not recipe.decay_norms,
            )
        except ValueError as error:
            raise InputError(f"optimizer {recipe.optimizer} with these settings: {error}") from error
        warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
        schedule, _ = create_scheduler_v2(
            optimizer,
            sched=_SCHEDULES[recipe.schedule],
            num_epochs=recipe.epochs - warmup,  # type: ignore[arg-type]
            decay_epochs=recipe.step_epochs if recipe.schedule == "step" else recipe.epochs + 1,
            decay_rate=0.1,
            warmup_epochs=warmup,  # type: ignore[arg-type]
            warmup_prefix=True,
            warmup_lr=recipe.lr * 0.04,
            min_lr=0.0,
            step_on_epochs=False,
            updates_per_epoch=self.steps_per_epoch,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedules count updates."""
        assert isinstance(scheduler, Scheduler)
        scheduler.step_update(num_updates=self.global_step)
