"""What the tests of the engine share: trainings in processes of their own, and what they left read back."""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from fishnet.bundle.bundle import read_bundle
from fishnet.cli import main
from fishnet.training.checkpoints import BundleWriter
from fishnet.training.history import read_history
from fishnet.training.module import TrainingModule

ROOT = Path(__file__).parents[2]
EPOCHS, STEPS = 4, 2  # 21 training images in whole batches of 8


def last(out: Path, name: str = "last") -> dict[str, Any]:
    """A training's checkpoint; loading it shows that it is whole."""
    found: dict[str, Any] = torch.load(out / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return found


def same_training(one: Path, other: Path) -> None:
    """Weights, averages, optimizer state, history and bundle agree bit for bit: one thread, float32 on the CPU."""
    a, b = last(one), last(other)
    assert a["global_step"] == b["global_step"]
    assert a["position"] == b["position"]
    assert list(a["state_dict"]) == list(b["state_dict"])
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key
    mine, others = a["optimizer_states"][0]["state"], b["optimizer_states"][0]["state"]
    assert list(mine) == list(others)
    for number, state in mine.items():
        for name, value in state.items():
            same = torch.equal(value, others[number][name]) if torch.is_tensor(value) else value == others[number][name]
            assert same, (number, name)
    assert read_history(one / "history.csv") == read_history(other / "history.csv")
    best, other_best = last(one, "best"), last(other, "best")
    assert best["position"] == other_best["position"]
    assert all(torch.equal(value, other_best["state_dict"][key]) for key, value in best["state_dict"].items())
    assert read_bundle(one).sha256 == read_bundle(other).sha256
    assert read_bundle(one).metrics == read_bundle(other).metrics


def falls(out: Path) -> None:
    """The training loss is lower in the last fifth of the steps than in the first: the model has learned something.

    How well a short training does depends on the processor and the libraries, by the order in which they add up.
    """
    losses = [float(row["train/loss"]) for row in read_history(out / "history.csv") if row["train/loss"]]
    fifth = max(1, len(losses) // 5)
    assert sum(losses[-fifth:]) < 0.9 * sum(losses[:fifth]), losses


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars: steps and values of each name, in the order in which they would be drawn."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return {name: [(it.step, it.value) for it in read.Scalars(name)] for name in read.Tags()["scalars"]}


@dataclass(frozen=True)
class Ended:
    """A process that is over: its exit code, minus the signal that killed it, and what it wrote to both outputs."""

    code: int | None
    text: str


def ended(words: list[object], prepare: Callable[..., None] | None = None, *arguments: object) -> Ended:
    """Runs ``fishnet`` in a process of its own, forked from one that has the imports behind it.

    Args:
        words: of the command line.
        prepare: called in the process first, with the arguments: where it is to be killed, or what it may write.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fishnet.training.fit", "fishnet.cli.train", "tests.training.runs"])
    with NamedTemporaryFile("r") as log:
        process = context.Process(target=_child, args=([str(word) for word in words], log.name, prepare, arguments))
        process.start()
        process.join()
        return Ended(process.exitcode, log.read())


def _child(words: list[str], log: str, prepare: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    file = os.open(log, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of the workers: what a user's process does
    if prepare is not None:
        prepare(*arguments)
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def die() -> None:
    """What the out-of-memory killer and ``kill -9`` do."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_step(step: int) -> None:
    """Lets this process be killed within a training step, before the update that would make it step + 1."""
    training_step = TrainingModule.training_step

    def call(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        loss = training_step(self, batch, batch_idx)
        if self.global_step == step:
            die()
        return loss

    TrainingModule.training_step = call  # type: ignore[method-assign]


def die_in_validation(epoch: int) -> None:
    """Lets this process be killed at an epoch's first validation batch."""

    def call(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        if self.current_epoch == epoch:
            die()
        validation_step(self, batch, batch_idx)

    validation_step = TrainingModule.validation_step
    TrainingModule.validation_step = call  # type: ignore[method-assign]


def die_in_checkpoint(call: int) -> None:
    """Lets this process be killed when half of the call-th checkpoint is written."""
    write = Path.write_bytes
    calls = 0

    def half(self: Path, content: Any) -> int:
        nonlocal calls
        calls += self.name.endswith(".ckpt.partial")
        if self.name.endswith(".ckpt.partial") and calls == call:
            write(self, content[: len(content) // 2])
            die()
        return write(self, content)

    Path.write_bytes = half  # type: ignore[method-assign]


def die_before_renaming(name: str, call: int) -> None:
    """Lets this process be killed when a whole file is to take its name the call-th time."""
    replace = Path.replace
    calls = 0

    def replaced(self: Path, target: Any) -> Path:
        nonlocal calls
        calls += Path(target).name == name
        if Path(target).name == name and calls == call:
            die()
        return replace(self, target)

    Path.replace = replaced  # type: ignore[assignment,method-assign]


def always_best() -> None:
    """Lets this process take every epoch for the best, so that it writes a bundle after each."""
    BundleWriter.best = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment]


def limit_files(size: int) -> None:
    """Lets this process write no file beyond so many bytes: as a full disk, but for one file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drawn_steps(count: int, first: int, end: int, seed: int) -> list[int]:
    """Different steps of a training, in order."""
    return sorted(random.Random(seed).sample(range(first, end), count))


def torchrun(*words: object, module: str = "fishnet", timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """``torchrun --nproc-per-node 2 -m MODULE ...``, each process with one thread."""
    return python("torch.distributed.run", "--nproc-per-node", 2, "-m", module, *words, timeout=timeout)


def python(module: str, *words: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """``python -m MODULE ...`` in a process group of its own, of which nothing stays after the time."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def spied(cls: type, name: str, see: Callable[..., None]) -> Iterator[None]:
    """Lets ``see`` look at an object after each call of one of its methods."""
    own = getattr(cls, name)

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        result = own(self, *arguments, **options)
        see(self, *arguments)
        return result

    setattr(cls, name, call)
    try:
        yield
    finally:
        setattr(cls, name, own)
