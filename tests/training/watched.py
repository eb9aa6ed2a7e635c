"""``python -m tests.training.watched DIE_AT COUNTS WORDS...``: ``fishnet``, in a process that torchrun starts.

DIE_AT is the step within which the first process is killed, or -1; into the folder COUNTS each process writes how many
images of each validation it has measured.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from fishnet.cli import run
from fishnet.training.module import TrainingModule
from tests.training.runs import die_at_step, spied


def watched(die_at: int, counts: Path, words: list[str]) -> NoReturn:
    """Trains under watch."""
    rank = os.environ["RANK"]
    if die_at >= 0 and rank == "0":
        die_at_step(die_at)

    def count(module: TrainingModule) -> None:
        with (counts / f"{rank}.txt").open("a") as file:
            file.write(f"{module.images_read}\n")

    with spied(TrainingModule, "on_validation_epoch_end", count):
        run(words)


if __name__ == "__main__":
    watched(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
