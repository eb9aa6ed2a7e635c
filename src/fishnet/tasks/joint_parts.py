"""The outputs, losses and metrics of several heads."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.errors import InputError, nearest
from fishnet.recipes.joint_recipe import MEAN


@dataclass(frozen=True)
class JointOutputs:
    """The heads' outputs for one batch.

    Attributes:
        outputs: of each head that has annotated images in the batch, for these images.
        targets: of the same heads and images.
        scales: factor of each head's loss, so that the mean over all processes is the mean over all their images.
        idle: a loss of 0 with a gradient of 0 for every parameter; None where all heads have images.
    """

    outputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    scales: Mapping[str, float]
    idle: Tensor | None

    @classmethod
    def of(
        cls, outputs: Mapping[str, Any], targets: Mapping[str, Any], counts: Mapping[str, int], model: nn.Module
    ) -> "JointOutputs":
        """The outputs of a batch; ``counts`` has the number of annotated images of every head.

        In a training of several processes, all of them must call this together.
        """
        if not torch.is_grad_enabled():
            return cls(outputs, targets, dict.fromkeys(outputs, 1.0), None)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        idle = None
        if not all(counts.values()):
            idle = torch.stack([parameter.sum() for parameter in trained]).sum() * 0
        return cls(outputs, targets, _scales(counts, trained[0].device), idle)


def _scales(counts: Mapping[str, int], device: torch.device) -> dict[str, float]:
    """Each head's share of all processes' annotated images, times the number of processes; 1 in a single process."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return dict.fromkeys(counts, 1.0)
    totals = torch.tensor(list(counts.values()), dtype=torch.float32, device=device)
    distributed.all_reduce(totals)
    world = distributed.get_world_size()
    return {
        name: count * world / total if total else 0.0
        for (name, count), total in zip(counts.items(), totals.tolist(), strict=True)
    }


class JointCriterion(nn.Module):
    """The losses of all heads, each times its head's weight.

    With learned weights, a head's losses are also multiplied by exp(-s) and s is added, where s is a parameter: the
    logarithm of the head's variance (Kendall, Gal, Cipolla: "Multi-Task Learning Using Uncertainty to Weigh Losses for
    Scene Geometry and Semantics", CVPR 2018, arXiv 1705.07115).

    Args:
        criteria: of each head by name.
        weights: factor of each head's losses.
        learned: whether weights are learned, too.
    """

    def __init__(self, criteria: Mapping[str, nn.Module], weights: Mapping[str, float], learned: bool = False) -> None:
        super().__init__()
        self.criteria, self.weights = nn.ModuleDict(criteria), dict(weights)
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in criteria} if learned else {}
        )

    def forward(self, outputs: JointOutputs, targets: Any = None) -> dict[str, Tensor]:
        """Named losses ``HEAD/LOSS``; the targets are those inside the outputs."""
        losses: dict[str, Tensor] = {}
        for name, output in outputs.outputs.items():
            weight = self.weights[name] * outputs.scales[name]
            head_losses = self.criteria[name](output, outputs.targets[name])
            if name in self.log_variances:
                log_variance = self.log_variances[name]
                head_losses = {loss: value * torch.exp(-log_variance) for loss, value in head_losses.items()}
                losses[f"{name}/variance"] = outputs.scales[name] * log_variance
            losses |= {f"{name}/{loss}": weight * value for loss, value in head_losses.items()}
        if outputs.idle is not None:
            unused = [value for name, value in self.log_variances.items() if name not in outputs.outputs]
            losses["idle"] = outputs.idle + 0 * sum(unused, torch.zeros_like(outputs.idle))
        return losses


class JointMetrics(nn.Module):
    """The metrics of all heads, ``HEAD/METRIC``, and the mean of their monitors.

    Args:
        metrics: of each head by name.
        logged: the metrics of each head to compute; empty for all.
        monitors: the metric of each head that goes into the mean.
        monitor: the metric that decides which epoch is best.

    Raises:
        InputError: no head has the metric ``monitor``.
    """

    def __init__(
        self,
        metrics: Mapping[str, Any],
        logged: Mapping[str, Sequence[str]],
        monitors: Mapping[str, str],
        monitor: str,
    ) -> None:
        super().__init__()
        self.metrics, self.logged, self.monitors = nn.ModuleDict(metrics), dict(logged), dict(monitors)
        head, _, metric = monitor.partition("/")
        known = () if monitor == MEAN else self.logged[head] or tuple(self._head(head).keys())
        if known and metric not in known:
            raise InputError(f"monitor={monitor}: {head} has no metric {metric!r}: {nearest(metric, known)}")

    def update(self, outputs: JointOutputs, targets: Any = None) -> None:
        """Adds a batch."""
        for name, output in outputs.outputs.items():
            self._head(name).update(output, outputs.targets[name])

    def compute(self) -> dict[str, Any]:
        """The metrics, 0 to 1."""
        values: dict[str, Any] = {}
        for name, logged in self.logged.items():
            computed = self._head(name).compute()
            values |= {f"{name}/{key}": value for key, value in computed.items() if not logged or key in logged}
        means = [torch.as_tensor(values[f"{name}/{key}"]).float().cpu() for name, key in self.monitors.items()]
        return {**values, MEAN: torch.stack(means).mean()}

    def reset(self) -> None:
        """Forgets all batches."""
        for name in self.logged:
            self._head(name).reset()

    def _head(self, name: str) -> Any:
        return self.metrics[name]


def group_counts(rows: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The number of samples by the names of the heads that annotate them, most frequent first."""
    return dict(Counter("+".join(row) for row in rows).most_common())
