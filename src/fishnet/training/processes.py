"""Training in several processes: this one's rank, its share of a batch, and Lightning's strategy."""

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
        rank: this process's number.
        world: number of processes.
        nodes: number of machines that they run on.
    """

    rank: int = 0
    world: int = 1
    nodes: int = 1

    @property
    def devices(self) -> int:
        """Processes on each machine."""
        return self.world // self.nodes

    def share(self, batch_size: int) -> int:
        """Returns this process's number of images in a batch.

        Raises:
            InputError: the batch cannot be shared equally.
        """
        if batch_size % self.world:
            raise InputError(f"batch_size={batch_size}: must be a multiple of {self.world}, the number of processes")
        return batch_size // self.world


def find_processes(recipe: Recipe) -> Processes:
    """Returns the processes that torchrun or SLURM have started, else those of the recipe, which Lightning will start.

    Raises:
        InputError: the recipe's ``devices`` or ``nodes`` contradict torchrun or SLURM.
    """
    if TorchElasticEnvironment.detect():
        environment: TorchElasticEnvironment | SLURMEnvironment = TorchElasticEnvironment()
        launcher, local = "torchrun", _number("LOCAL_WORLD_SIZE", environment.world_size())
    elif SLURMEnvironment.detect():
        environment = SLURMEnvironment()
        launcher, local = "SLURM", environment.world_size() // _number("SLURM_NNODES", 1)
    else:
        devices, nodes = recipe.devices or 1, recipe.nodes or 1
        lightning = LightningEnvironment()
        return Processes(lightning.node_rank() * devices + lightning.local_rank(), devices * nodes, nodes)
    processes = Processes(environment.global_rank(), environment.world_size(), environment.world_size() // local)
    devices, nodes = processes.devices, processes.nodes
    if recipe.devices not in (0, devices):
        raise InputError(
            f"devices={recipe.devices}: {launcher} started {devices} processes per machine: remove devices"
        )
    if recipe.nodes not in (0, nodes):
        raise InputError(f"nodes={recipe.nodes}: {launcher} started processes on {nodes} machines: remove nodes")
    return processes


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def strategy_of(recipe: Recipe, processes: Processes) -> str | Strategy:
    """Returns Lightning's strategy: one process, DDP, or sharded parameters, gradients and optimizer states.

    The sharded strategy saves complete checkpoints, gathered by the first process.
    """
    if recipe.strategy == "sharded":
        return ModelParallelStrategy(
            data_parallel_size=processes.world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy() if processes.world > 1 else "auto"
