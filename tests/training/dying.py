"""``python -m tests.training.dying WORDS...``: ``fishnet`` in a process of torchrun; the second one's workers die."""

import os
import signal
import sys

from fishnet.cli import run
from tests.training.test_workers import signal_workers

if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        signal_workers(signal.SIGKILL)
    run(sys.argv[1:])
