"""torch.hub's entry points, as its users call them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fishnet.backbone import SPECS
from fishnet.prediction.predictor import Predictor
from tests.makers import image

REPO = str(Path(__file__).parents[1])


@pytest.fixture
def cloned(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name on GitHub whose clone is this checkout."""
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *_, **__: REPO)
    return "someone/fishnet-vision"


def test_list(cloned: str) -> None:
    assert sorted(torch.hub.list(cloned)) == sorted([*SPECS, "bundle"])


@pytest.mark.parametrize("name", SPECS)
def test_help(name: str, cloned: str) -> None:
    assert "parameters" in torch.hub.help(cloned, name, skip_validation=True)


@pytest.mark.parametrize("name", ["fishnet_nano", "fishnet99"])
def test_a_network(name: str, cloned: str) -> None:
    for model in (
        torch.hub.load(REPO, name, source="local", num_classes=7),
        torch.hub.load(cloned, name, trust_repo=True, num_classes=7),
    ):
        assert model.num_classes == 7
        assert model.spec == SPECS[name]


def test_a_bundle(bundle: Path) -> None:
    predictor = torch.hub.load(REPO, "bundle", str(bundle), source="local", device="cpu")
    assert isinstance(predictor, Predictor)
    assert predictor.predict(image("red", 1)).to_dict()["predictions"][0]["name"] == "red"


def test_a_clone_is_enough() -> None:
    """In a process that does not find the package installed."""
    code = f"""
import sys
from importlib.util import find_spec
from pathlib import Path
sys.path = [p for p in sys.path if p and not (Path(p) / "fishnet").is_dir()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
assert find_spec("fishnet") is None
import torch
model = torch.hub.load({REPO!r}, "fishnet_nano", source="local", num_classes=7)
assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
import fishnet
print(fishnet.__file__)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == Path(REPO) / "src/fishnet/__init__.py"
