"""The Lightning module of a training. It uses the interface of Task and no particular task."""

import dataclasses
from collections.abc import Mapping
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
from fishnet.data.base import derive_seed
from fishnet.data.entries import TensorTarget
from fishnet.data.loading import Batch
from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.writing import atomic_path
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.base import WHOLE, Task
from fishnet.tasks.model import Model
from fishnet.tasks.store import current_names
from fishnet.training.batches import Prepare
from fishnet.training.optimise import optimizer_of, rate_of, schedule_of

_ADVICE = "try a lower lr, a longer warmup_epochs, or clip_grad=5"


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes:
        epoch: epochs done.
        batches: batches done in the current epoch.
        step: updates done.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0


class TrainingModule(pl.LightningModule):
    """One task's model under one recipe.

    Args:
        task, model, classes: what is trained.
        criterion: maps raw outputs and targets to named losses; see :meth:`~fishnet.tasks.base.Task.criterion`.
        prepare: turns pixels (uint8) into the model's input.
        recipe: the settings.
        updates_per_epoch: optimizer steps per epoch.
        frozen: modules of the model that stay in evaluation mode.
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
        self.thresholds: dict[str, dict[str, float]] = {}  # by head, fitted to the last validation's images
        self.val_loss = nn.ModuleDict({part: _mean() for part in task.loss_parts})
        self.position = Position()
        self.broken: set[str] = set()
        self.images_read = 0  # number of images in the current pass over the training or the validation split

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and kept: the EMA model if there is one."""
        return self.model if self.ema is None else self.ema.module

    def outputs(self, model: nn.Module, images: Tensor, targets: Any) -> Any:
        """Returns the outputs of a model that the criterion and the metrics take."""
        return self.task.run(model, images, targets)

    def configure_model(self) -> None:
        """Shards the parameters over the processes, if the strategy does."""
        if self._sharded and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard

            if self.ema is not None:  # buffers are not sharded and cannot be averaged in one call with parameters
                self.ema.foreach = False
            mesh = self.device_mesh["data_parallel"]  # type: ignore[index]
            for model in (self.model, *(() if self.ema is None else (self.ema.module,))):
                fully_shard(model.to(memory_format=torch.contiguous_format), mesh=mesh)  # supports no other format

    @property
    def _sharded(self) -> bool:
        return isinstance(self.trainer.strategy, ModelParallelStrategy)

    def full_state(self) -> dict[str, Tensor]:
        """Returns the tensors of the validated model, unsharded. All processes must call this."""
        if not self._sharded:
            return self.eval_model.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        return get_model_state_dict(self.eval_model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the position of the training."""
        checkpoint["position"] = dataclasses.asdict(self.position)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drops the saved schedule, as a resumed training may have more epochs, and updates old names of tensors."""
        checkpoint["lr_schedulers"] = []
        if "state_dict" in checkpoint:  # sharded parameters were loaded before this and already have current names
            checkpoint["state_dict"] = _current_names(checkpoint["state_dict"], self.task.name)

    def on_train_start(self) -> None:
        """Sets the learning rate of the first step, also of a resumed training."""
        self.lr_scheduler_step(self.lr_schedulers(), None)

    def on_train_epoch_start(self) -> None:
        """Resets the count of images."""
        self.images_read = 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds mixing and dropout by (seed, epoch, batch), so that a resumed training repeats them."""
        torch.manual_seed(derive_seed(self.recipe.seed, self.current_epoch, batch_idx, self.global_rank))
        for module in self.frozen:
            module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Returns the loss. A batch with too few readable images for the model is skipped."""
        self.count_images(batch)
        if not batch.indices or (batch.broken and len(batch.indices) < self.task.min_batch_size(self.model)):
            return None if self.trainer.world_size == 1 else self._log_loss(self._zero_loss(), 0)
        images, targets = self.prepare(batch.images, batch.targets)
        loss = total(self.criterion(self.outputs(self.model, images, targets), targets))
        self.check_finite(loss, batch)
        return self._log_loss(loss, len(batch.indices))

    def _log_loss(self, loss: Tensor, count: int) -> Tensor:
        """Logs the mean loss over all processes' images. Each process must call this, even without an image."""
        mean, images = loss.detach(), count
        if self.trainer.world_size > 1:
            sums = torch.stack([mean * count, torch.full_like(mean, count)])
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
            mean, images = sums[0] / sums[1], int(sums[1])
        if images:
            self.log("train/loss", mean, batch_size=images)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Updates the weights, and then the EMA, before a callback can save it."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.model, step=self.global_step + 1)

    def _zero_loss(self) -> Tensor:
        """Returns a loss of 0 computed by the model, for a process without images that must join the backward pass."""
        self.model.eval()
        targets = moved(self.task.empty_targets(), self.device)
        loss = total(self.criterion(self.outputs(self.model, self._blank_image(), targets), targets))
        self.model.train()
        return 0 * loss

    def _blank_image(self) -> Tensor:
        side = self.recipe.size
        return torch.zeros(1, self.recipe.channels, side, side, device=self.device)

    def count_images(self, batch: Batch) -> None:
        """Counts a batch's images. Raises InputError for one that could not be read, unless these are skipped."""
        if batch.broken and self.recipe.on_error == "stop":
            raise InputError(f"{batch.broken[0]}; fix or remove it, or train with on_error=skip")
        self.broken.update(batch.broken)
        self.images_read += len(batch.indices)

    def _check_read(self, split: str) -> None:
        """Raises InputError if no image of a pass over a split could be read, in any process."""
        count = torch.tensor(float(self.images_read), device=self.device)
        if not self.trainer.strategy.reduce(count, reduce_op="sum"):
            raise InputError(f"no image of the {split} split could be read; first: {min(self.broken, default='none')}")

    def check_finite(self, loss: Tensor, batch: Batch | None = None) -> None:
        """Raises WorkError if a loss is not finite, and saves the batch for inspection."""
        if torch.isfinite(loss):
            return
        if batch is None:
            raise WorkError(f"the loss became {loss.item()} within a few steps; {_ADVICE}")
        rank = "" if self.trainer.world_size == 1 else f"-{self.global_rank}"
        place = Path(self.trainer.default_root_dir) / f"nan-batch{rank}.pt"
        content = {"images": batch.images, "targets": plain(batch.targets), "indices": batch.indices}
        try:
            with atomic_path(place) as partial, partial.open("wb") as file:
                torch.save(content, file)
            saved = f"the batch is saved as {place}"
        except (WorkError, RuntimeError) as error:  # a full disk: torch's writer raises its own error
            saved = f"the batch is not saved ({first_line(error)})"
        raise WorkError(
            f"the loss became {loss.item()} at step {self.global_step} (learning rate "
            f"{rate_of(self.trainer.optimizers[0]):.3g}); {saved}; {_ADVICE}"
        )

    def on_validation_epoch_start(self) -> None:
        """Raises InputError if no training image could be read; resets the count of images."""
        self._check_read("train")
        self.images_read = 0
        if self.trainer.world_size > 1:  # all validate with the first process's running statistics, which are saved
            for buffer in self.eval_model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Updates the metrics."""
        self.count_images(batch)
        if not batch.indices:
            if self._sharded:
                with torch.autocast(self.device.type, enabled=False):
                    self.outputs(self.eval_model, self._blank_image(), moved(self.task.empty_targets(), self.device))
            return
        torch.manual_seed(derive_seed(self.recipe.seed, self.current_epoch, batch_idx, self.global_rank))
        with torch.autocast(self.device.type, enabled=False):  # in float32, as predictions are by default
            outputs = self.outputs(self.eval_model, self.prepare.normalize(batch.images), batch.targets)
            losses = self.criterion(outputs, batch.targets)
        self.metrics.update(outputs, batch.targets)
        for part, count in self.task.part_counts(outputs, len(batch.indices)).items():
            own = losses if part == WHOLE else {k: v for k, v in losses.items() if k.startswith(f"{part}/")}
            self._mean_of(part).update(total(own), weight=count)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss`` and the task's metrics, in percent."""
        self._check_read("val")
        names = self.task.logged_metrics
        values = {name: 100 * value for name, value in self.metrics.compute().items() if not names or name in names}
        loss = self._computed_loss()
        if not torch.isfinite(loss):
            raise WorkError(
                f"the validation loss became {loss.item()} after step {self.global_step} (learning rate "
                f"{rate_of(self.trainer.optimizers[0]):.3g}); {_ADVICE}"
            )
        self.log("val/loss", loss)
        self.log_dict({f"val/{name}": value for name, value in values.items()})
        self.thresholds = self.task.fitted_thresholds(self.metrics)
        self.metrics.reset()
        for part in self.val_loss:
            self._mean_of(part).reset()

    def _computed_loss(self) -> Tensor:
        """The validation loss: the sum of the means of its parts."""
        means: dict[str, Tensor] = {part: self._mean_of(part).compute() for part in self.val_loss}
        for part, mean in means.items():
            if torch.isnan(mean):
                raise InputError(
                    f"no validation image of the head {part} could be read; first: {min(self.broken, default='none')}"
                )
        return torch.stack(list(means.values())).sum()

    def _mean_of(self, part: str) -> MeanMetric:
        mean = self.val_loss[part]
        assert isinstance(mean, MeanMetric)
        return mean

    def on_train_end(self) -> None:
        """Gathers the images that could not be read from all processes."""
        if self.trainer.world_size > 1:
            gathered: list[set[str]] = [set()] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self.broken)
            self.broken = set().union(*gathered)

    def configure_optimizers(self) -> Any:
        """Returns timm's optimizer and per-update schedule."""
        optimizer = optimizer_of(self.model, self.recipe)
        loss_weights = list(self.criterion.parameters())
        if loss_weights:
            optimizer.add_param_group({"params": loss_weights, "lr": self.recipe.lr, "weight_decay": 0.0})
        schedule = schedule_of(optimizer, self.recipe, self.updates_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Steps timm's schedule, which counts updates."""
        assert isinstance(scheduler, Scheduler)
        scheduler.step_update(num_updates=self.global_step)


def _current_names(state: dict[str, Any], head: str) -> dict[str, Any]:
    """Returns a checkpoint's tensors by their current names; see :func:`~fishnet.tasks.store.current_names`."""
    kept = dict(state)
    for prefix in ("model.", "ema.module."):
        inner = {key.removeprefix(prefix): kept.pop(key) for key in state if key.startswith(prefix)}
        kept |= {f"{prefix}{key}": value for key, value in current_names(inner, head).items()}
    return kept


def _mean() -> MeanMetric:
    return MeanMetric(nan_strategy=float("inf"))  # "warn" would drop NaNs, and "disable" the weights


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Returns the sum of named losses, which training minimises."""
    return torch.stack(list(losses.values())).sum()


def plain(targets: Any) -> Any:
    """Returns a batch's targets as tensors in lists and dicts, which ``torch.load`` reads without running code."""
    if isinstance(targets, list):
        return [plain(target) for target in targets]
    if isinstance(targets, dict):
        return {name: plain(target) for name, target in targets.items()}
    if isinstance(targets, TensorTarget):
        return {name: value for name, value in vars(targets).items() if torch.is_tensor(value)}
    return targets


def moved(targets: Any, device: torch.device | str) -> Any:
    """Returns a batch's targets on another device."""
    if isinstance(targets, list):
        return [moved(target, device) for target in targets]
    if isinstance(targets, dict):
        return {name: moved(target, device) for name, target in targets.items()}
    return targets.to(device) if hasattr(targets, "to") else targets
