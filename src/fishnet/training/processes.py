"""Several processes: which one this is, how a batch is shared, and the strategy that keeps them together."""

import os
from dataclasses import dataclass

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        rank: this one's number.
        world: how many there are.
        nodes: on how many machines.
    """

    rank: int = 0
    world: int = 1
    nodes: int = 1

    @property
    def devices(self) -> int:
        """Processes on each machine."""
        return self.world // self.nodes

    def share(self, batch_size: int) -> int:
        """This process's images of a batch.

        Raises:
            InputError: the processes cannot get equally many.
        """
        if batch_size % self.world:
            raise InputError(
                f"batch_size={batch_size}: {self.world} processes share it: must be a multiple of {self.world}"
            )
        return batch_size // self.world


def find_processes(recipe: Recipe) -> Processes:
    """What torchrun or SLURM say, else what the recipe asks for (Lightning then starts the processes itself).

    Raises:
        InputError: the recipe's ``devices`` or ``nodes`` contradict torchrun or SLURM.
    """
    if TorchElasticEnvironment.detect():
        around: TorchElasticEnvironment | SLURMEnvironment = TorchElasticEnvironment()
        told, local = "torchrun", _number("LOCAL_WORLD_SIZE", around.world_size())
    elif SLURMEnvironment.detect():
        around = SLURMEnvironment()
        told, local = "SLURM", around.world_size() // _number("SLURM_NNODES", 1)
    else:
        devices, nodes = recipe.devices or 1, recipe.nodes or 1
        own = LightningEnvironment()
        return Processes(own.node_rank() * devices + own.local_rank(), devices * nodes, nodes)
    found = Processes(around.global_rank(), around.world_size(), around.world_size() // local)
    for name in ("devices", "nodes"):
        asked, there = getattr(recipe, name), getattr(found, name)
        if asked not in (0, there):
            raise InputError(f"{name}={asked}: {told} has started {there}: leave it out")
    return found


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def strategy_of(recipe: Recipe, processes: Processes) -> str | Strategy:
    """Lightning's strategy: one process, whole models in each, or parameters, gradients and moments shared out.

    The sharded one saves whole checkpoints, put together on the first process.
    """
    if recipe.strategy == "sharded":
        return ModelParallelStrategy(
            data_parallel_size=processes.world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy() if processes.world > 1 else "auto"
