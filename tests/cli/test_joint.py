"""``fishnet train joint``: a recipe file, HEAD=DATA, one flag a head; and ``fishnet val`` of what it wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fishnet.bundle.bundle import read_bundle
from fishnet.cli import main
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.joint_makers import joint_data

HEADS = ("classify", "detect", "segment")
FLAGS = fast(
    "--size", 64, "--max-size", 64, "--batch-size", 4, "--fpn-channels", 16, "--box-width", 16, "--decoder-channels",
    16, "--proposals", 20, "--roi-samples", 16, "--threads", 1,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same images, annotated for three heads. Not to be changed by a test."""
    return joint_data(tmp_path_factory.mktemp("data") / "all", 10)


@pytest.fixture(scope="module")
def bundle(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three heads. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("run") / "joint"
    assert main(["train", "joint", *(f"{k}={v}" for k, v in data.items()), "--out", str(out), *FLAGS]) == 0
    return out


# what can be said


def by_words(data: dict[str, str], root: Path) -> list[str]:
    return [f"{name}={path}" for name, path in data.items()]


def by_flags(data: dict[str, str], root: Path) -> list[str]:
    return [word for name, path in data.items() for word in (f"--{name}", path)]


def by_file(data: dict[str, str], root: Path) -> list[str]:
    file = root / "tasks.yaml"
    file.write_text(yaml.safe_dump({"heads": {name: {"data": path} for name, path in data.items()}}, sort_keys=False))
    return [str(file)]


def by_file_and_words(data: dict[str, str], root: Path) -> list[str]:
    file = root / "tasks.yaml"
    heads = {"classify": {"data": "nowhere.csv"}, "detect": {"task": "detect"}, "segment": {"data": data["segment"]}}
    file.write_text(yaml.safe_dump({"heads": heads}, sort_keys=False))
    return [f"classify={data['classify']}", str(file), f"detect={data['detect']}"]


def by_recipe_and_flag(data: dict[str, str], root: Path) -> list[str]:
    file = by_file({name: data[name] for name in ("classify", "detect")}, root)[0]
    return ["--recipe", file, "--segment", data["segment"]]


@pytest.mark.parametrize("say", [by_words, by_flags, by_file, by_file_and_words, by_recipe_and_flag])
def test_one_training_said_in_several_ways(
    say: Callable[[dict[str, str], Path], list[str]], data: dict[str, str], tmp_path: Path, run: Run
) -> None:
    code, out, err = run("train", "joint", *say(data, tmp_path), "--dry-run", *FLAGS, "--flip", 0, "--sampling", "sqrt")
    assert code == 0, err
    recipe = yaml.safe_load(out)
    assert {name: head["data"] for name, head in recipe["heads"].items()} == data
    assert [head["task"] for head in recipe["heads"].values()] == list(HEADS)
    assert (recipe["size"], recipe["flip"], recipe["sampling"]) == (64, 0, "sqrt")
    assert recipe["heads"]["detect"]["fpn_channels"] == 16


def test_a_bundle_and_its_metrics(bundle: Path) -> None:
    assert list(read_bundle(bundle).heads) == list(HEADS)
    assert yaml.safe_load((bundle / "recipe.yaml").read_text())["monitor"] == "mean"


def test_json(data: dict[str, str], tmp_path: Path, run: Run) -> None:
    flags = [flag for flag in FLAGS if flag != "--quiet"]
    own = {"--fpn-channels", "--box-width", "--proposals", "--roi-samples", "--decoder-channels"}
    kept = [w for i, w in enumerate(flags) if w not in own and (i == 0 or flags[i - 1] not in own)]
    result = run("train", "joint", f"classify={data['classify']}", "--out", tmp_path / "run", *kept, "--json")
    assert result[0] == 0, result[2]
    content = json.loads(result[1])
    assert set(content["metrics"]) == {"loss", "classify/acc@1", "mean"}
    assert content["bundle"] == str(tmp_path / "run")


def test_resuming_needs_no_data(data: dict[str, str], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("train", "joint", *by_words(data, tmp_path), "--out", out, *FLAGS)[0] == 0
    code, text, err = run("train", "joint", "--resume", out, "--epochs", 2)
    assert code == 0, err
    assert "continuing after epoch 1" in text
    assert text.splitlines()[-1] == f"bundle: {out}"
    assert "detect/AP " in text
    code, text, err = run("train", "joint", f"classify={data['classify']}", "--resume", out, "--quiet")
    assert code == 0, err


def test_resuming_on_other_classes_is_refused(bundle: Path, data: dict[str, str], tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other.csv"
    lines = Path(data["classify"]).read_text().replace("dark", "dim").splitlines()
    other.write_text("\n".join(line.replace("images/", f"{Path(data['classify']).parent}/images/") for line in lines))
    says(run("train", "joint", f"classify={other}", "--resume", bundle, "--quiet"), 2, "classify", "classes", "dark")


# what cannot


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["needs heads", "--TASK DATA"]),
        (["data"], ["data: give a recipe file (.yaml), or HEAD=DATA"]),
        (["detect="], ["detect=: give a recipe file (.yaml), or HEAD=DATA"]),
        (["a.yaml", "b.yaml"], ["b.yaml: only one recipe can be given, and a.yaml is one"]),
        (["a.yaml", "--recipe", "b.yaml"], ["a.yaml: only one recipe can be given, and b.yaml is one"]),
        (["detekt=a"], ["no head 'detekt'", "detect?"]),
        (["detect=a", "detect=b"], ["detect", "a and b", "only one"]),
        (["detect=a", "--detect", "b"], ["detect", "a and b", "only one"]),
        (["no.yaml"], ["no.yaml"]),
        (["classify=a", "segment=b", "--head", "fpn"], ["head", "which head"]),
        (["classify=a", "--monitor", "detect/AP"], ["monitor=detect/AP"]),
        (["classify=a", "--keep-heads"], ["keep_heads", "bundle"]),
        (["classify=a", "--anchors", "auto"], ["anchors", "none of the heads"]),
        (["classify=nowhere.csv"], ["nowhere.csv"]),
    ],
)
def test_wrong_words(words: list[str], expected: list[str], tmp_path: Path, run: Run) -> None:
    says(run("train", "joint", *words, "--out", tmp_path / "run", "--device", "cpu"), 2, *expected)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--sampling", "--loss-weighting"])
def test_wrong_choices(flag: str, run: Run) -> None:
    code, _, err = run("train", "joint", "classify=a", flag, "often")
    assert code == 2
    assert flag in err


@pytest.mark.parametrize("flag", ["--mixup", "--mosaic"])
def test_flags_that_joint_training_does_not_have(flag: str, run: Run) -> None:
    code, _, err = run("train", "joint", "classify=a", flag, 0.5)
    assert code == 2
    assert flag in err


# val


def test_val_measures_each_head_as_training_did(bundle: Path, tmp_path: Path, run: Run) -> None:
    code, text, err = run("val", bundle, "--workers", 0, "--out", tmp_path / "val", "--json")
    assert code == 0, err
    content = json.loads(text)
    trained = read_bundle(bundle).metrics
    names = [name for name in trained if "/" in name]
    assert {name.partition("/")[0] for name in names} == set(HEADS)
    for name in names:
        assert content["metrics"][name] == pytest.approx(trained[name], abs=1e-3), name
    assert {name: head["split"] for name, head in content["heads"].items()} == dict.fromkeys(HEADS, "val")
    assert len({head["images"] for head in content["heads"].values()}) == 1
    assert {path.name for path in (tmp_path / "val").iterdir()} == {"metrics.json", *HEADS}


def test_val_of_one_head(bundle: Path, data: dict[str, str], tmp_path: Path, run: Run) -> None:
    result = run("val", bundle, f"segment={data['segment']}", "--workers", 0, "--out", tmp_path / "val", "--json")
    assert result[0] == 0, result[2]
    metrics = json.loads(result[1])["metrics"]
    assert {name.partition("/")[0] for name in metrics} == {"segment"}
    assert metrics["segment/mIoU"] == pytest.approx(read_bundle(bundle).metrics["segment/mIoU"], abs=1e-3)


def test_val_of_data_without_a_head(bundle: Path, data: dict[str, str], run: Run) -> None:
    says(run("val", bundle, data["segment"], "--workers", 0), 2, "several heads", "HEAD=DATA")
    says(run("val", bundle, f"colour={data['segment']}", data["detect"]), 2, "HEAD=DATA", "classify, detect, segment")


def test_val_recognises_data_that_moved(bundle: Path, data: dict[str, str], tmp_path: Path, run: Run) -> None:
    """The images that training held out are found again by their names."""
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in Path(data["segment"]).iterdir():
        (moved / path.name).symlink_to(path)
    result = run("val", bundle, f"classify={moved / 'labels.csv'}", "--workers", 0, "--out", tmp_path / "v", "--json")
    assert result[0] == 0, result[2]
    content = json.loads(result[1])["heads"]["classify"]
    assert content["split"] == "val"
