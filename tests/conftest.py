"""Fixtures of all tests: every test starts from the same random state, and computes in one thread.

One thread: the nets here are too small to gain by more, several workers (pytest-xdist) or a busy machine make more of
them wait for each other, and the order of summation stays the same from machine to machine.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fishnet.cli import main
from tests.certain import make_certain
from tests.makers import image_folder


def fast(*more: object) -> list[str]:
    """Flags that make a training take about a second; flags given here win over them."""
    flags = {
        "--backbone": "fishnet_nano", "--size": "32", "--batch-size": "8", "--workers": "0", "--device": "cpu",
        "--epochs": "1",
    }  # fmt: skip
    words = [str(word) for word in more]
    kept = [word for name, value in flags.items() if name not in words for word in (name, value)]
    return [*kept, "--quiet", *words]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a GPU on a machine without one."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight images. Not to be changed by a test."""
    return image_folder(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on ``folder``, which tells the three colours apart for sure. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("run") / "classify"
    words = ["train", "classify", str(folder), "--out", str(out), *fast("--epochs", 3, "--lr", 0.1, "--batch-size", 6)]
    assert main(words) == 0
    make_certain(out)
    return out


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call
