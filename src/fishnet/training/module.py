"""The Lightning side of a training. Knows Task, and no task by name."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fishnet.bundle.classes import Classes
from fishnet.data.base import Batch, derive_seed
from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.writing import whole
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.base import Task
from fishnet.tasks.model import Model
from fishnet.tasks.store import current_names
from fishnet.training.batches import Prepare
from fishnet.training.optimise import optimizer_of, rate_of, schedule_of

_ADVICE = "try a lower --lr, a longer --warmup-epochs or --clip-grad 5"


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes:
        epoch: epochs behind it.
        batches: of the running epoch, behind it.
        step: updates behind it.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0


class TrainingModule(pl.LightningModule):
    """One task's model under one recipe.

    Args:
        task, model, classes: what is trained.
        criterion: raw outputs and targets to named losses; see :meth:`~fishnet.tasks.base.Task.criterion`.
        prepare: from pixels to the model's input; batches arrive as uint8.
        recipe: the settings.
        updates_per_epoch: optimiser steps in one pass.
        frozen: parts of the model that stay in evaluation mode.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        classes: Classes,
        criterion: nn.Module,
        prepare: Prepare,
        recipe: Recipe,
        updates_per_epoch: int,
        frozen: list[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.task, self.model, self.recipe, self.updates_per_epoch = task, model, recipe, updates_per_epoch
        self.criterion, self.prepare = criterion, prepare
        self.ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True).requires_grad_(False) if recipe.ema else None
        self.frozen = tuple(frozen or ())
        self.metrics = task.metrics(classes)
        self.val_loss = MeanMetric(nan_strategy=float("inf"))  # its "warn" leaves them out, "disable" forgets weights
        self.position = Position()
        self.broken: set[str] = set()
        self.read = 0  # images of the running pass, over the training or the validation part

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and kept: the average of the weights where there is one."""
        return self.model if self.ema is None else self.ema.module

    def outputs(self, model: nn.Module, images: Tensor, targets: Any) -> Any:
        """What a model's head for the task gives for images and targets."""
        return model(images, {self.task.name: targets})[self.task.name]

    def configure_model(self) -> None:
        """Shares out parameters over the processes, where that is the strategy."""
        if self._sharded and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard

            if self.ema is not None:
                self.ema.foreach = (
                    False  # buffers stay whole: they cannot be averaged in one call with shared-out parameters
                )
            mesh = self.device_mesh["data_parallel"]  # type: ignore[index]
            for whole in (self.model, *(() if self.ema is None else (self.ema.module,))):
                fully_shard(whole.to(memory_format=torch.contiguous_format), mesh=mesh)  # it takes no other format

    @property
    def _sharded(self) -> bool:
        return isinstance(self.trainer.strategy, ModelParallelStrategy)

    def whole_state(self) -> dict[str, Tensor]:
        """The tensors of the judged model, put together where they are shared out. To be called by all processes."""
        if not self._sharded:
            return self.eval_model.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        return get_model_state_dict(self.eval_model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds where the training stands."""
        checkpoint["position"] = dataclasses.asdict(self.position)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The schedule is this recipe's: a resumed training may have more epochs than the one that was saved."""
        checkpoint["lr_schedulers"] = []
        if "state_dict" in checkpoint:  # shared-out parameters are loaded before this, and have today's names only
            checkpoint["state_dict"] = _current_names(checkpoint["state_dict"], self.task.name)

    def on_train_start(self) -> None:
        """Sets the learning rate of the step that the training starts or goes on with."""
        self.lr_scheduler_step(self.lr_schedulers(), None)

    def on_train_epoch_start(self) -> None:
        """Counts from 0."""
        self.read = 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """What is drawn for a batch (mixing, dropout) depends on (seed, epoch, batch): a resumed run repeats it."""
        torch.manual_seed(derive_seed(self.recipe.seed, self.current_epoch, batch_idx, self.global_rank))
        for part in self.frozen:
            part.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """One step's loss; nothing to learn from in a batch without a readable image, or with fewer than it takes."""
        self.account(batch)
        if not batch.indices or (batch.broken and len(batch.indices) < self.model.min_batch_size):
            return None if self.trainer.world_size == 1 else self._told(self._no_loss(), 0)
        images, targets = self.prepare(batch.images, batch.targets)
        loss = total(self.criterion(self.outputs(self.model, images, targets), targets))
        self.check_finite(loss, batch)
        return self._told(loss, len(batch.indices))

    def _told(self, loss: Tensor, count: int) -> Tensor:
        """Logs the mean loss of all processes' images; to be called by each process, also one without an image."""
        mean, images = loss.detach(), count
        if self.trainer.world_size > 1:
            sums = torch.stack([mean * count, torch.full_like(mean, count)])
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
            mean, images = sums[0] / sums[1], int(sums[1])
        if images:
            self.log("train/loss", mean, batch_size=images)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update; the average follows before a callback can save it."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.model, step=self.global_step + 1)

    def _no_loss(self) -> Tensor:
        """A loss of 0 that has gone through the model, for a process that must keep step with the others."""
        self.model.eval()
        targets = moved(self.task.empty_targets(), self.device)
        loss = total(self.criterion(self.outputs(self.model, self._blank(), targets), targets))
        self.model.train()
        return 0 * loss

    def _blank(self) -> Tensor:
        side = self.recipe.size
        return torch.zeros(1, self.recipe.channels, side, side, device=self.device)

    def account(self, batch: Batch) -> None:
        """Counts a batch's images. Raises InputError for one that could not be read, unless these are skipped."""
        if batch.broken and self.recipe.on_error == "stop":
            raise InputError(f"{batch.broken[0]}; mend or remove it, or train with --on-error skip")
        self.broken.update(batch.broken)
        self.read += len(batch.indices)

    def _check_read(self, part: str) -> None:
        """Raises InputError where no image of a whole pass could be read."""
        read = self.trainer.strategy.reduce(torch.tensor(float(self.read), device=self.device), reduce_op="sum")
        if not read:
            raise InputError(f"no image of the {part} part could be read; first: {min(self.broken, default='none')}")

    def check_finite(self, loss: Tensor, batch: Batch | None = None) -> None:
        """Raises WorkError where a loss is not finite, with the batch saved for a look."""
        if torch.isfinite(loss):
            return
        if batch is None:
            raise WorkError(f"the loss became {loss.item()} within a few steps; {_ADVICE}")
        rank = "" if self.trainer.world_size == 1 else f"-{self.global_rank}"
        place = Path(self.trainer.default_root_dir) / f"nan-batch{rank}.pt"
        content = {"images": batch.images, "targets": plain(batch.targets), "indices": batch.indices}
        try:
            with whole(place) as partial, partial.open("wb") as file:
                torch.save(content, file)
            saved = f"the batch is saved as {place}"
        except (WorkError, RuntimeError) as error:  # torch's writer hides what a full disk raises
            saved = f"the batch is not saved ({first_line(error)})"
        raise WorkError(
            f"the loss became {loss.item()} at step {self.global_step} (learning rate "
            f"{rate_of(self.trainer.optimizers[0]):.3g}); {saved}; {_ADVICE}"
        )

    def on_validation_epoch_start(self) -> None:
        """Ends a training that had nothing to learn from; counts from 0."""
        self._check_read("train")
        self.read = 0
        if self.trainer.world_size > 1:  # one set of running statistics for all, the one that is kept
            for buffer in self.eval_model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Feeds the metrics."""
        self.account(batch)
        if not batch.indices:
            if self._sharded:
                self.outputs(self.eval_model, self._blank(), moved(self.task.empty_targets(), self.device))
            return
        torch.manual_seed(derive_seed(self.recipe.seed, self.current_epoch, batch_idx, self.global_rank))
        outputs = self.outputs(self.eval_model, self.prepare.normalize(batch.images), batch.targets)
        self.metrics.update(outputs, batch.targets)
        self.val_loss.update(total(self.criterion(outputs, batch.targets)), weight=len(batch.indices))

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss`` and the task's metrics, in percent."""
        self._check_read("val")
        watched = self.task.watched
        values = {name: 100 * value for name, value in self.metrics.compute().items() if not watched or name in watched}
        loss = self.val_loss.compute()
        if not torch.isfinite(loss):
            raise WorkError(
                f"the validation loss became {loss.item()} after step {self.global_step} (learning rate "
                f"{rate_of(self.trainer.optimizers[0]):.3g}); {_ADVICE}"
            )
        self.log("val/loss", loss)
        self.log_dict({f"val/{name}": value for name, value in values.items()})
        self.metrics.reset()
        self.val_loss.reset()

    def on_train_end(self) -> None:
        """Every process knows all images that could not be read."""
        if self.trainer.world_size > 1:
            found: list[set[str]] = [set()] * self.trainer.world_size
            torch.distributed.all_gather_object(found, self.broken)
            self.broken = set().union(*found)

    def configure_optimizers(self) -> Any:
        """timm's optimiser and per-update schedule."""
        optimizer = optimizer_of(self.model, self.recipe)
        schedule = schedule_of(optimizer, self.recipe, self.updates_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedules count updates."""
        assert isinstance(scheduler, Scheduler)
        scheduler.step_update(num_updates=self.global_step)


def _current_names(state: dict[str, Any], head: str) -> dict[str, Any]:
    """A checkpoint's tensors by the names that they have today; see :func:`~fishnet.tasks.store.current_names`."""
    kept = dict(state)
    for prefix in ("model.", "ema.module."):
        inner = {key.removeprefix(prefix): kept.pop(key) for key in state if key.startswith(prefix)}
        kept |= {f"{prefix}{key}": value for key, value in current_names(inner, head).items()}
    return kept


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of named losses, which training minimises."""
    return torch.stack(list(losses.values())).sum()


def plain(targets: Any) -> Any:
    """A batch's targets as tensors in plain lists and dicts, which ``torch.load`` reads without running code."""
    if isinstance(targets, list):
        return [{name: value for name, value in vars(one).items() if torch.is_tensor(value)} for one in targets]
    return targets


def moved(targets: Any, device: torch.device | str) -> Any:
    """A batch's targets on another device."""
    return [one.to(device) for one in targets] if isinstance(targets, list) else targets.to(device)
