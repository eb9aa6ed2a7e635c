"""``fishnet predict``, ``info`` and ``push`` with models of several heads."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fishnet.bundle.bundle import Bundle, HeadConfig, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import save_weights
from tests.bright import scene
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.prediction.test_scene import panoptic
from tests.several import COLOURS, HEADS, several

RED, GREEN = ((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green")
NETWORK_HEADS = {
    "species": HeadConfig("classify", Classes(("cat", "dog"), (3, 9))),
    "segment": HeadConfig("segment", Classes(("ground", "berry"), (0, 5)), "body", {"width": 16}),
}


def use(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """Makes every bundle this model."""
    monkeypatch.setattr("fishnet.tasks.loading.load", lambda *_, **__: predictor)
    return predictor


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An image with two objects, and one without."""
    folder = tmp_path / "work"
    folder.mkdir()
    scene(100, 64, RED, GREEN).save(folder / "a.png")
    scene(64, 90).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two heads with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    model = Model.build(ModelSpec("fishnet_nano", NETWORK_HEADS))
    metrics = {"species/acc@1": 90.0, "segment/mIoU": 70.5}
    bundle = Bundle("fishnet_nano", NETWORK_HEADS, Preprocess((64, 64), fit="whole"), metrics=metrics)
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_each_head_has_a_key_and_a_folder(
    work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, out = use(several(), monkeypatch), tmp_path / "out"
    code, text, _ = run("predict", "x", work, "--out", out, "--overlay", "--json")
    assert code == 0
    lines = [json.loads(line) for line in text.splitlines()]
    assert [list(line) for line in lines] == [["source", *HEADS]] * 2
    assert (out / "predictions.jsonl").read_text() == text
    results = predictor.predict([str(work / "a.png"), str(work / "b.png")])
    assert [{name: line[name] for name in HEADS} for line in lines] == [result.to_dict() for result in results]
    assert files(out) == {
        "a.png", "b.png", "predictions.jsonl", "objects/coco_results.json", "objects/coco_images.json",
        "ground/masks/a.png", "ground/masks/b.png",
    }  # fmt: skip
    entries = json.loads((out / "objects" / "coco_results.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(1, 30), (1, 7)]
    with Image.open(out / "ground" / "masks" / "a.png") as mask:
        assert set(np.unique(np.asarray(mask))) == {0, 7, 30}


def test_the_table_and_csv(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(several(), monkeypatch)
    _, text, _ = run("predict", "x", work / "a.png")
    assert text.startswith(f"{work / 'a.png'}: colour: ")
    assert "; objects: 2 objects: 1 red, 1 green; ground: background 88" in text
    _, text, _ = run("predict", "x", work, "--as", "csv", "--top", 2)
    assert text.splitlines()[0] == "source,rank,head,id,name,score,x1,y1,x2,y2,area,pixels,share"
    rows = [(row["head"], row["rank"]) for row in csv.DictReader(text.splitlines())]
    assert rows == [
        ("colour", "1"), ("colour", "2"), ("objects", "1"), ("objects", "2"),
        ("ground", "1"), ("ground", "2"), ("ground", "3"), ("colour", "1"), ("colour", "2"), ("ground", "1"),
    ]  # fmt: skip


def test_options_of_some_heads(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(several(), monkeypatch)
    code, text, _ = run("predict", "x", work, "--json", "--tile", 64, "--tta", "--threshold", 0.95, "--top", 1)
    assert code == 0
    assert [len(line["objects"]["objects"]) for line in map(json.loads, text.splitlines())] == [0, 0]
    use(several("colour", "ground"), monkeypatch)
    says(run("predict", "x", work, "--threshold", 0.5), 2, "--threshold: not for a classify, segment model", "--tile")
    says(run("predict", "x", work, "--ids", "x.json", "--out", "o"), 2, "coco_results.json, which detectors write")


def test_panoptic_files(work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(panoptic(), monkeypatch)
    out = tmp_path / "out"
    words = ("--stuff-area", 200, "--panoptic-score", 0.3, "--panoptic-overlap", 0.2)
    code, text, _ = run("predict", "x", work, "--out", out, "--overlay", "--json", *words)
    assert code == 0
    first = json.loads(text.splitlines()[0])
    assert list(first) == ["source", "instances", "segment", "panoptic"]
    assert sorted(entry["name"] for entry in first["panoptic"]["segments_info"]) == ["green", "ground", "red"]
    assert files(out) == {
        "a.png", "b.png", "predictions.jsonl", "instances/coco_results.json", "instances/coco_images.json",
        "segment/masks/a.png", "segment/masks/b.png", "panoptic.json", "panoptic/a.png", "panoptic/b.png",
    }  # fmt: skip
    use(several(), monkeypatch)
    says(run("predict", "x", work, "--stuff-area", 5), 2, "--stuff-area: not for a classify, instances, segment model")


def test_only_some_heads(network: Path, work: Path, tmp_path: Path, run: Run) -> None:
    _, everything, _ = run("predict", network, work, "--json", "--device", "cpu")
    _, text, _ = run(
        "predict", network, work, "--json", "--only", "segment", "--device", "cpu", "--out", tmp_path / "o"
    )
    for line, whole in zip(text.splitlines(), everything.splitlines(), strict=True):
        values = json.loads(line)
        source = values.pop("source")
        assert values == json.loads(whole)["segment"], "a single head's own result"
        assert (tmp_path / "o" / "masks" / Path(source).name).is_file(), "and its own files"
    _, text, _ = run("predict", network, work, "--json", "--only", "segment, species", "--device", "cpu")
    assert text == everything
    says(run("predict", network, work, "--only", "specis"), 2, "only='specis'", "did you mean species?")
    says(run("predict", network, work, "--only", ","), 2, "name one or more heads: species, segment")


def test_embeddings_beside_other_heads(network: Path, work: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "vectors.npy"
    assert run("predict", network, work, "--embed", path, "--quiet", "--device", "cpu")[0] == 0
    assert len(np.load(path)) == 2
    words = ("--embed", path, "--only", "segment", "--device", "cpu")
    says(run("predict", network, work, *words), 2, "this model has no embeddings: use a classifier")


def test_info_shows_every_head(network: Path, run: Run) -> None:
    code, text, _ = run("info", network)
    assert code == 0
    lines = {line[: line.index("  ")]: line.split("  ", 1)[1].strip() for line in text.splitlines()}
    assert lines["head species"] == "classify, head default; 2 classes: cat, dog"
    assert lines["head segment"] == "segment, head body (width=16); 2 classes: ground, berry"
    facts = json.loads(run("info", network, "--json")[1])
    assert {name: head["classes"] for name, head in facts["heads"].items()} == {
        "species": ["cat", "dog"], "segment": ["ground", "berry"]
    }  # fmt: skip


def test_info_shows_how_segments_are_merged(tmp_path: Path, run: Run) -> None:
    write_bundle(tmp_path, panoptic().bundle, lambda path: path.write_bytes(b"weights"))
    lines = run("info", tmp_path)[1].splitlines()
    shown = next(line for line in lines if line.startswith("panoptic"))
    assert "2 things: red, green; 1 stuff: ground; score_threshold=0.5, overlap_threshold=0.5, stuff_area=100" in shown
    assert next(line for line in lines if line.startswith("head instances")).endswith("thresholds: score=0.2")


def a_card(bundle: Bundle) -> tuple[dict[str, Any], str]:
    """The model card's YAML and its text."""
    hub = pytest.importorskip("fishnet.bundle.hub")
    pytest.importorskip("huggingface_hub")
    _, head, text = hub.card(bundle, "me/several").split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_card_lists_every_head() -> None:
    head, text = a_card(replace(several().bundle, metrics={"colour/acc@1": 90.0}))
    assert head["pipeline_tag"] == "image-classification", "that of the first head"
    assert head["tags"] == ["fishnet", "pytorch", "classify", "instances", "segment", "none"]
    assert head["metrics"] == ["accuracy"]
    assert "3 heads that share one pass: `colour` (classify), `objects` (instances), `ground` (segment)" in text
    assert f"- `colour`, 3 classes: {', '.join(f'`{name}`' for name in COLOURS.names)}" in text
    assert "| colour/acc@1 | 90 |" in text
    head, text = a_card(panoptic().bundle)
    assert (head["pipeline_tag"], head["tags"][-2]) == ("image-segmentation", "panoptic")
    assert "merged into panoptic segments" in text
    assert "The whole image in its own size" in text


@pytest.mark.parametrize("name", ["source", "panoptic"])
def test_names_that_predictions_need_themselves(name: str) -> None:
    values = replace(several().bundle, heads={name: HEADS["colour"]}).to_dict()
    with pytest.raises(InputError, match=f"'{name}' is a key of predictions beside those of the heads"):
        Bundle.from_dict(values)


def test_panoptic_needs_both_heads() -> None:
    from fishnet.prediction.heads import select_heads

    bundle = panoptic().bundle
    assert isinstance(bundle.panoptic, PanopticConfig)
    assert select_heads(bundle, ["instances"]).panoptic is None
    assert select_heads(bundle, ["segment", "instances"]) == bundle
