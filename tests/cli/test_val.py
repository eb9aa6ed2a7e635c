"""``fishnet val``: what it prints, what it writes, and what can go wrong."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import fishnet
from fishnet.bundle.bundle import read_bundle
from tests.conftest import Run
from tests.makers import image, image_folder

FILES = {
    "metrics.json", "per_class.csv", "confusion.csv", "confusion.png", "reliability.png", "most_wrong.csv",
    "most_wrong.png",
}  # fmt: skip


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """Four images of each colour, and a green and a blue one under red."""
    root = image_folder(tmp_path / "data", 4)
    for name in ("green", "blue"):
        image(name, 77).save(root / "red" / f"not-{name}.png")
    return root


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_told_agrees_with_the_predictions(bundle: Path, mislabelled: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "report"
    code, text, err = run("val", bundle, mislabelled, "--json", "--workers", 0, "--out", out)
    assert code == 0, err
    it = json.loads(text)
    assert {Path(file).name for file in it["files"]} == FILES == {path.name for path in out.iterdir()}
    assert (it["split"], it["images"], it["broken"]) == ("all", 14, [])
    assert it["weights"] == read_bundle(bundle).sha256
    assert json.loads((out / "metrics.json").read_text()) == {
        key: value for key, value in it.items() if key not in ("bundle", "files")
    }

    predictor = fishnet.load(bundle, "cpu")
    paths = sorted(mislabelled.rglob("*.*"))
    rows = [predictor.predict(path).rows() for path in paths]
    wrong = {str(path): row for path, row in zip(paths, rows, strict=True) if row[0]["name"] != path.parent.name}
    assert len(wrong) == 2, "the bundle tells colours apart"
    assert it["metrics"]["acc@1"] == pytest.approx(100 * 12 / 14)
    sure = sum(row[0]["score"] for row in rows) / 14
    assert 0 <= it["metrics"]["ECE"] <= 100
    assert it["metrics"]["ECE"] >= abs(100 * sure - 100 * 12 / 14) - 1e-3, "never below the mean gap"
    table = {row["class"]: row for row in it["per_class"]}
    assert table["red"]["images"] == 6
    assert table["red"]["recall"] == pytest.approx(100 * 4 / 6, abs=1e-3)
    assert table["green"]["precision"] == pytest.approx(100 * 4 / 5)
    assert table["red"]["mistaken"] == 1
    worst = read_csv(out / "most_wrong.csv")
    assert {row["source"] for row in worst} == set(wrong)
    for row in worst:
        assert row["true"] == "red"
        assert row["predicted"] == wrong[row["source"]][0]["name"]
        assert float(row["score"]) == pytest.approx(wrong[row["source"]][0]["score"], abs=1e-4)
    assert [float(row["loss"]) for row in worst] == sorted((float(row["loss"]) for row in worst), reverse=True)
    assert sum(int(row["images"]) for row in read_csv(out / "confusion.csv")) == 14
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(out / name) as image:
                image.load()


def test_what_is_printed_and_the_default_folder(bundle: Path, mislabelled: Path, tmp_path: Path, run: Run) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(bundle, mine)
    code, text, err = run("val", mine, mislabelled, "--workers", 0, "--split", "all")
    assert (code, err) == (0, "")
    assert "14 images" in text
    for word in ("acc@1", "ECE", "recall", "precision", f"saved in {mine / 'val-all'}", "most_wrong.png"):
        assert word in text
    assert any(line.split()[:3] == ["red", "6", "66.67"] for line in text.splitlines())
    assert {path.name for path in (mine / "val-all").iterdir()} == FILES


def test_a_class_without_images(bundle: Path, tmp_path: Path, run: Run) -> None:
    for i in range(3):
        for name in ("red", "green"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            image(name, i).save(tmp_path / "data" / name / f"{i}.png")
    code, text, _ = run("val", bundle, tmp_path / "data", "--workers", 0, "--out", tmp_path / "out")
    assert code == 0
    assert any(line.split() == ["blue", "0", "-", "-", "-"] for line in text.splitlines())
    assert not (tmp_path / "out" / "most_wrong.png").exists(), "there is no mistake"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_place_that_cannot_be_written_to(as_json: bool, bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").touch()
    code, text, err = run(
        "val", bundle, folder, "--workers", 0, "--out", tmp_path / "file" / "deep", *(["--json"] if as_json else [])
    )
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert "report not written" in err
    assert "choose another --out" in err
    if as_json:
        assert json.loads(text)["metrics"]["acc@1"] == 100
        assert json.loads(text)["files"] == []
    else:
        assert "100.00 %" in text


def test_images_that_cannot_be_read_are_named_and_left_out(
    bundle: Path, mislabelled: Path, tmp_path: Path, run: Run
) -> None:
    (mislabelled / "red" / "0.png").write_text("no image")
    code, text, err = run(
        "val", bundle, mislabelled, "--json", "--workers", 0, "--split", "all", "--out", tmp_path / "o"
    )
    assert code == 1
    assert "left out" in err
    assert "red/0.png" in err
    it = json.loads(text)
    assert (it["images"], len(it["broken"])) == (13, 1)
    assert sum(row["images"] for row in it["per_class"]) == 13
    assert "red/0.png" in it["broken"][0]
