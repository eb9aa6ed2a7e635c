"""Weights in the package: a network's name works wherever a bundle does."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fishnet
import fishnet.weights
from fishnet.bundle.bundle import read_bundle, write_bundle
from fishnet.bundle.hub import bundle_path, local_path
from fishnet.recipes.loading import load_recipe
from fishnet.weights import weight_names, weights_folder
from tests.conftest import Run, fast

PACKAGED = weight_names()


@pytest.fixture
def packaged(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose only weights are those of ``bundle`` in 16 bits, and a working directory without anything."""
    folder, work = tmp_path / "weights", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    state = load_file(bundle / "model.safetensors")
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    write_bundle(folder / "fishnet_nano", read_bundle(bundle), lambda path: save_file(halved, path))
    monkeypatch.setattr(fishnet.weights, "_FOLDER", folder)
    monkeypatch.chdir(work)
    return folder / "fishnet_nano"


def test_a_name_is_a_bundle_unless_there_is_such_a_path(packaged: Path, bundle: Path) -> None:
    assert bundle_path("fishnet_nano") == packaged == weights_folder("fishnet_nano")
    assert bundle_path("fishnet_nano.tiny_imagenet") == packaged, "timm's name of the weights"
    assert bundle_path("fishnet_tiny") == Path("fishnet_tiny")
    assert weights_folder("fishnet_tiny") is weights_folder("") is weights_folder("..") is None
    assert local_path("fishnet_nano") == Path("fishnet_nano"), "where a network is meant, its name is no path"
    Path("fishnet_nano").mkdir()
    assert bundle_path("fishnet_nano") == packaged, "an empty folder is no bundle"
    Path("fishnet_nano").rmdir()
    shutil.copytree(bundle, "fishnet_nano")
    assert bundle_path("fishnet_nano") == Path("fishnet_nano")


def test_weights_inspect_by_name(packaged: Path, run: Run) -> None:
    rows = dict(line.split(maxsplit=1) for line in run("weights", "inspect", "fishnet_nano")[1].splitlines())
    assert (rows["network"], rows["classes"]) == ("fishnet_nano", str(len(read_bundle(packaged).classes.names)))


def test_predictions_by_name(packaged: Path, bundle: Path, folder: Path, run: Run) -> None:
    photo = min(folder.rglob("*.png"))
    by_name, by_path = (fishnet.load(source, "cpu").predict(photo) for source in ("fishnet_nano", bundle))
    assert by_name.labels.tolist() == by_path.labels.tolist()
    assert by_path.classes.names[by_path.labels[0]] == photo.parent.name
    assert by_name.scores == pytest.approx(by_path.scores, abs=0.01), "half precision rounds to 1 part in 2,000"
    code, out, _ = run("predict", "fishnet_nano", photo)
    assert code == 0
    assert photo.parent.name in out


def test_val_and_export_by_name_write_into_the_working_directory(packaged: Path, folder: Path, run: Run) -> None:
    before = sorted(packaged.iterdir())
    assert run("val", "fishnet_nano", folder, "--device", "cpu", "--quiet")[0] == 0
    assert run("export", "fishnet_nano", "--to", "onnx", "--quiet")[0] == 0
    assert sorted(packaged.iterdir()) == before
    assert Path("model.onnx").is_file()


def test_training_starts_from_weights_by_name(packaged: Path, folder: Path, run: Run) -> None:
    code, out, _ = run("train", "classify", folder, *fast("--weights", "fishnet_nano", "--out", "run"))
    assert code == 0
    assert "weights from fishnet_nano" in out


def test_recipes_of_the_package_are_pretrained_only_by_weights_of_the_package(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "backbone: fishnet_nano\npretrained: true\n"
    place = tmp_path / "recipes" / "classify"
    place.mkdir(parents=True)
    (place / "small-data.yaml").write_text(text)
    (mine := tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr("fishnet.recipes.loading._PACKAGED", tmp_path / "recipes")
    assert load_recipe("classify").pretrained
    assert not load_recipe("classify", overrides={"pretrained": False}).pretrained
    assert not load_recipe("classify", overrides={"backbone": "resnet18"}).pretrained, "it would be a download"
    assert not load_recipe("classify", from_weights={"backbone": "fishnet99"}).pretrained
    assert load_recipe("classify", overrides={"backbone": "resnet18", "pretrained": True}).pretrained
    assert load_recipe("classify", str(mine), {"backbone": "resnet18"}).pretrained, "the user's own recipe"


def test_a_resumed_training_loads_no_pretrained_weights(folder: Path, tmp_path: Path, run: Run) -> None:
    """Its checkpoint has all weights, and those of the package may be gone."""
    place = tmp_path / "run"
    assert run("train", "classify", folder, *fast("--out", place))[0] == 0
    recipe = place / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("pretrained: false", "pretrained: true"))
    code, out, err = run("train", "classify", folder, "--resume", place, "--epochs", 2, "--quiet")
    assert (code, err) == (0, "")
    assert "pretrained" not in out


def test_a_name_without_weights(packaged: Path, run: Run) -> None:
    code, _, err = run("predict", "fishnet_tiny", "photo.jpg")
    assert (code, err.count("\n")) == (2, 1)
    assert "no such bundle (networks with weights in this package: fishnet_nano)" in err


def test_weights_do_not_change_networks_without_them() -> None:
    for name in ("fishnet_nano", "fishnet_tiny", "fishnet_small"):
        assert fishnet.create_model(name).state_dict()["score.fc.weight"].shape[0] == 1000


@pytest.mark.skipif(not PACKAGED, reason="this version has no weights in the package")
class TestPackagedWeights:
    """Those that are really there."""

    def test_size(self) -> None:
        sizes = [file.stat().st_size for name in PACKAGED for file in Path(str(weights_folder(name))).iterdir()]
        assert sum(sizes) <= 10_000_000

    @pytest.mark.parametrize("name", PACKAGED)
    def test_files(self, name: str) -> None:
        place = Path(str(weights_folder(name)))
        assert sorted(path.name for path in place.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        bundle = read_bundle(place)
        assert (bundle.backbone, bundle.task, len(bundle.classes)) == (name, "classify", 200)
        card = (place / "README.md").read_text(encoding="utf-8")
        assert f"{bundle.metrics['acc@1']:.2f}" in card
        for word in ("Tiny-ImageNet", "non-commercial", "seed", "not"):
            assert word in card

    @pytest.mark.parametrize("name", PACKAGED)
    @pytest.mark.parametrize(("channels", "size"), [(3, 64), (1, 32), (5, 96), (3, 250)])
    def test_timm_loads_them_at_any_size_and_channel_count(self, name: str, channels: int, size: int) -> None:
        fish = fishnet.create_model(name, pretrained=True, in_chans=channels).eval()
        with torch.no_grad():
            scores = fish(torch.randn(2, channels, size, size))
        assert scores.shape == (2, 200)
        assert scores.isfinite().all()

    @pytest.mark.parametrize("name", PACKAGED)
    def test_timm_and_the_bundle_are_the_same_network(self, name: str) -> None:
        fish = fishnet.create_model(name, pretrained=True).eval()
        state = load_file(Path(str(weights_folder(name))) / "model.safetensors")
        mine = fish.state_dict()
        assert len(state) == len(mine)
        for key, tensor in state.items():
            own = mine[key.removeprefix("trunk.backbone.")]
            assert torch.equal(own, tensor.to(own.dtype)), key
        assert tuple(fish.default_cfg["input_size"]) == (3, 64, 64)

    @pytest.mark.parametrize("name", PACKAGED)
    def test_another_number_of_classes_has_a_new_classifier(self, name: str) -> None:
        fish, own = (fishnet.create_model(name, pretrained=True, num_classes=classes) for classes in (7, 200))
        assert fish.state_dict()["score.fc.weight"].shape[0] == 7
        assert torch.equal(fish.state_dict()["stem.0.conv.weight"], own.state_dict()["stem.0.conv.weight"])

    def test_a_list_says_which_networks_have_weights(self, run: Run) -> None:
        _, out, _ = run("list")
        assert [line.split()[0] for line in out.splitlines() if "weights in this package" in line] == PACKAGED
