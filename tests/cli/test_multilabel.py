"""Several labels per image, from the table to the exported file."""

import csv
import json
from pathlib import Path

import pytest

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.prediction.results import MultiLabel
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import label_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_table(tmp_path_factory.mktemp("data") / "colours")


def test_from_a_table_to_an_exported_file(table: Path, tmp_path: Path, run: Run) -> None:
    """The exported file gives the same labels; ``val`` measures F1 with the thresholds in the bundle."""
    out, image = tmp_path / "run", table.parent / "images" / "05.png"
    code, text, err = run("train", "classify", table, "--multi-label", "--out", out, *fast("--epochs", 2))
    assert (code, err) == (0, "")
    assert "mAP" in text
    bundle = read_bundle(out)
    assert bundle.only_head.multi_label
    code, text, _ = run("val", out, table, "--json", "--workers", 0, "--device", "cpu")
    values = json.loads(text)
    assert (code, values["split"], values["images"]) == (0, "val", round(0.1 * 24))
    assert values["metrics"] == pytest.approx({name: bundle.metrics[name] for name in ("mAP", "F1")}, abs=1e-3)
    assert [row["threshold"] for row in values["per_class"]] == pytest.approx(
        bundle.only_head.label_thresholds, abs=1e-6
    )
    assert {Path(file).name for file in values["files"]} >= {"metrics.json", "per_class.csv"}
    code, text, _ = run("predict", out, image, "--as", "csv", "--device", "cpu", "--threshold", 0)
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["present"] for row in rows] == ["True"] * 3
    file = tmp_path / "labels.onnx"
    code, _, err = run("export", out, "--out", file, "--images", image)
    assert code == 0, err
    exported, trained = (fishnet.load(model).predict(image) for model in (file, out))
    assert isinstance(exported, MultiLabel)
    assert exported.names == trained.names
    assert exported.scores == pytest.approx(trained.scores, abs=1e-4)


def test_a_model_of_one_label_has_no_threshold(bundle: Path, table: Path, run: Run) -> None:
    says(
        run("predict", bundle, table.parent / "images", "--threshold", 0.5), 2, "--threshold: not for a classify model"
    )
