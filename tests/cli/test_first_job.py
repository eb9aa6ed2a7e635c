"""Train, validate, predict, inspect: the first job on real files."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.prediction.results import Classification
from fishnet.training.history import read_history
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import CLASSES, image, split_folder


def test_training_leaves_a_bundle_that_has_learned(bundle: Path, folder: Path, run: Run) -> None:
    it = read_bundle(bundle)
    assert it.classes.names == CLASSES
    assert it.metrics["acc@1"] == 100.0, "three plain colours must be told apart"
    assert (bundle / "curves.png").stat().st_size > 1000
    assert [int(row["step"]) for row in read_history(bundle / "history.csv")] == sorted(
        int(row["step"]) for row in read_history(bundle / "history.csv")
    )
    code, out, _ = run("val", bundle, folder, "--json", "--workers", 0)
    result = json.loads(out)
    assert code == 0
    assert result["split"] == "val"
    assert result["images"] == 3, "one image of each class was held out"
    assert result["metrics"]["acc@1"] == pytest.approx(it.metrics["acc@1"])


def test_validation_of_the_bundle_agrees_with_training(tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=6, val=5)
    code, _, err = run("train", "classify", data, "--out", tmp_path / "run", *fast())
    assert code == 0, err
    metrics = read_bundle(tmp_path / "run").metrics
    _, out, _ = run("val", tmp_path / "run", data, "--json", "--workers", 0)
    assert json.loads(out)["metrics"]["acc@1"] == pytest.approx(metrics["acc@1"], abs=1e-4)


@pytest.mark.parametrize(("parts", "wanted"), [(("train", "valid"), "val"), (("train", "val", "test"), "test")])
def test_split_names_and_the_default_part(
    parts: tuple[str, ...], wanted: str, bundle: Path, tmp_path: Path, run: Run
) -> None:
    data = split_folder(tmp_path / "data", **dict.fromkeys(parts, 2))
    _, out, _ = run("val", bundle, data, "--json", "--workers", 0)
    assert (json.loads(out)["split"], json.loads(out)["images"]) == (wanted, 6)
    _, out, _ = run("val", bundle, data, "--split", "train", "--workers", 0)
    assert "acc@1" in out
    assert "6 images" in out


def test_classes_are_matched_by_name_not_by_order(bundle: Path, tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    for name in ("green", "red"):
        (data / name).mkdir(parents=True)
        for i in range(4):
            image(name, 900 + i).save(data / name / f"{i}.png")
    _, out, err = run("val", bundle, data, "--json", "--workers", 0)
    result = json.loads(out)
    assert (result["split"], result["images"]) == ("all", 8), "nothing of other data was held out"
    assert "not recognised as this bundle's training data" in err
    assert result["metrics"]["acc@1"] == 100.0
    says(run("val", bundle, data, "--split", "val"), 2, "no split 'val'", "all")


def test_the_held_out_part_is_found_again(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    def measured(data: Path, *more: object) -> tuple[str, int]:
        code, out, err = run("val", bundle, data, "--json", "--workers", 0, *more)
        assert code == 0, err
        return json.loads(out)["split"], json.loads(out)["images"]

    assert measured(folder) == ("val", 3)
    assert measured(folder, "--split", "all") == ("all", 24)
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert measured(moved) == ("val", 3), "the same images in another place"
    (moved / "red" / "0.png").rename(moved / "red" / "another.png")
    assert measured(moved) == ("all", 24), "other images in another place"


def test_a_folder_of_val_alone(bundle: Path, tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", val=2)
    (data / "val" / "blue" / "0.png").unlink()
    (data / "val" / "blue" / "1.png").unlink()  # an empty class folder is no matter where the classes are known
    _, out, _ = run("val", bundle, data, "--json", "--workers", 0)
    assert (json.loads(out)["split"], json.loads(out)["images"]) == ("val", 4)
    says(run("train", "classify", data, "--out", tmp_path / "run", *fast()), 2, "empty class folder")


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("train", "classify", folder, "--dry-run", "--out", tmp_path / "run", *fast())
    assert code == 0, err
    assert "nothing was written" in out
    assert list(tmp_path.iterdir()) == []


def test_overlays_never_take_the_place_of_a_image(bundle: Path, tmp_path: Path, run: Run) -> None:
    for name in ("a.png", "a.jpg", "a-2.png"):
        image("red", 5).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run("predict", bundle, tmp_path, "--overlay", "--out", tmp_path)[0] == 0
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    assert {path.name for path in tmp_path.iterdir()} - set(before) == {
        "a-3.png", "a-4.png", "a-2-2.png", "predictions.jsonl"
    }  # fmt: skip


def test_names_that_are_no_text(bundle: Path, tmp_path: Path, run: Run) -> None:
    image("red", 5).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    for form in ("jsonl", "csv", "table"):
        code, _, err = run("predict", bundle, tmp_path, "--as", form, "--out", tmp_path / form)
        assert code == 0, err
    line = json.loads((tmp_path / "jsonl" / "predictions.jsonl").read_text())
    assert os.fsencode(line["source"]).endswith(b"\xff.png")


def test_a_backbone_of_fixed_size(folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run(
        "train", "classify", folder, "--out", tmp_path / "run", *fast("--backbone", "vit_tiny_patch16_224")
    )
    assert code == 0, err
    assert read_bundle(tmp_path / "run").backbone_args == {"img_size": 32}
    assert fishnet.load(tmp_path / "run").predict(folder / "red" / "0.png").to_dict()["predictions"]


def test_python_in_one_line(bundle: Path, folder: Path) -> None:
    result = fishnet.load(bundle).predict(folder / "red" / "0.png")
    assert isinstance(result, Classification)
    assert result.name == "red"
    assert result.scores.sum() == pytest.approx(1.0, abs=1e-5)


def test_predictor_takes_paths_images_and_arrays_alike(bundle: Path, folder: Path) -> None:
    predictor = fishnet.load(bundle)
    path = folder / "green" / "1.png"
    image = Image.open(path)
    results = predictor.predict([path, str(path), image, np.asarray(image)])
    assert predictor.predict([]) == []
    for result in results[1:]:
        assert result.to_dict() == results[0].to_dict()


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_predict_prints_and_saves(form: str, bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    code, text, _ = run(
        "predict", bundle, folder / "red", folder / "blue" / "*.jpg", "--as", form, "--out", out, "--overlay"
    )
    assert code == 0
    images = 8 + 2
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == images * 3
        assert (out / "predictions.csv").read_text() == text
        assert {row["name"] for row in rows if row["rank"] == "1"} == {"red", "blue"}
    else:
        lines = (out / "predictions.jsonl").read_text().splitlines()
        assert len(lines) == images
        assert all(json.loads(line)["predictions"][0]["name"] in ("red", "blue") for line in lines)
        assert text.splitlines()[: len(lines)] == lines if form == "jsonl" else "red 9" in text or "red 10" in text
    overlays = sorted(out.glob("*.png"))
    assert len(overlays) == images, "images of the same name must not overwrite each other"
    with Image.open(overlays[0]) as image:
        assert image.height > image.width, "the panel is below the image"


def test_predict_reads_names_from_standard_input(
    bundle: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{folder / 'red' / '0.png'}\n\n{folder / 'red' / '1.png'}\n"))
    code, out, _ = run("predict", bundle, "-", "--as", "jsonl")
    assert (code, len(out.splitlines())) == (0, 2)


def test_bad_images_are_reported_and_the_rest_is_finished(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    work = tmp_path / "work"
    shutil.copytree(folder / "red", work)
    whole = (work / "2.jpg").read_bytes()
    (work / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (work / "text.png").write_text("no image")
    code, out, err = run("predict", bundle, work, work / "missing.png", "--as", "jsonl", "--batch-size", 3)
    assert code == 1
    assert len(out.splitlines()) == 8
    lines = err.splitlines()
    assert len(lines) == 3
    for name in ("truncated.jpg", "text.png", "missing.png"):
        assert any(name in line for line in lines), err


def test_info_and_list(bundle: Path, run: Run) -> None:
    _, out, _ = run("info", bundle, "--json")
    facts = json.loads(out)
    assert (facts["task"], facts["backbone"], facts["classes"]) == ("classify", "fishnet_nano", list(CLASSES))
    _, out, _ = run("info", "fishnet99", "--json")
    assert json.loads(out)["parameters"] == 16_628_904
    _, out, _ = run("info", "fishnet99")
    assert "16,628,904" in out
    _, out, _ = run("list", "fishnet[12]*", "--json")
    assert [row["name"] for row in json.loads(out)] == ["fishnet150", "fishnet201"]
    _, out, _ = run("list", "resnet18")
    assert "11.69 M" in out


def test_json_of_a_training(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--json"))
    assert code == 0, err
    result = json.loads(out)
    assert result["bundle"] == str(tmp_path / "run")
    assert set(result["metrics"]) == {"acc@1", "loss"}


def test_default_folder_is_the_first_free_one(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/classify", "runs/classify-2"):
        _, out, _ = run("train", "classify", folder, *fast())
        assert f"bundle: {expected}\n" in out
        assert Path(expected, "config.json").is_file()


def test_options_from_a_config_file(folder: Path, tmp_path: Path, run: Run) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("backbone: fishnet_nano\nsize: 32\nworkers: 0\nepochs: 1\nlr: 0.03\ncrop-scale: [0.5, 1.0]\n")
    code, _, err = run("train", "classify", folder, "--config", config, "--out", tmp_path / "run", "--quiet")
    assert code == 0, err
    recipe = read_bundle(tmp_path / "run").recipe
    assert (recipe["epochs"], recipe["lr"], recipe["crop_scale"]) == (1, 0.03, [0.5, 1.0])


def test_any_timm_backbone(folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--backbone", "resnet10t"))
    assert code == 0, err
    assert fishnet.load(tmp_path / "run").predict(folder / "red" / "0.png").to_dict()["task"] == "classify"


def test_grey_input(folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--channels", 1))
    assert code == 0, err
    predictor = fishnet.load(tmp_path / "run")
    assert predictor.bundle.preprocess.channels == 1
    assert predictor.predict(folder / "red" / "0.png").to_dict()["predictions"]


def test_weights_of_a_bundle_start_another_training(bundle: Path, tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=4)
    shutil.rmtree(data / "train" / "blue")
    code, out, err = run("train", "classify", data, "--weights", bundle, "--out", tmp_path / "run", *fast())
    assert code == 0, err
    assert "classes by name: 2 of 2 keep their weights" in out
