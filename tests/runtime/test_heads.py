"""Exported files of models with several heads: one file, all heads in one pass, or some of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import fishnet
from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.results import Scene
from fishnet.runtime.contract import check_outputs
from fishnet.runtime.engines import RuntimeEngine, read_exported
from fishnet.runtime.exported import Exported
from fishnet.runtime.reducing import reduced
from tests.exporting.files import Files, assert_alike, images, set_store
from tests.exporting.models import SETS, made_set
from tests.marks import slow
from tests.test_imports import heavy_after

CASES = [
    ("maps", "onnx"), ("two-stage", "onnx"), ("two-stage", "xml"), slow("one-stage", "onnx"), slow("maps", "pt2"),
    slow("panoptic", "xml"), slow("classifiers", "onnx"), slow("two-of-a-kind", "xml"),
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The files of each set of heads. Not to be changed by a test."""
    return set_store(tmp_path_factory.mktemp("heads"))


def batch(count: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 3, 96, 128), np.float32)


def assert_equal(ours: Any, theirs: Any, atol: float = 0.0) -> None:
    """Raw outputs of a head, one item per image."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        pairs = [(one[name], other[name]) for name in other] if isinstance(other, Mapping) else [(one, other)]
        for mine, wanted in pairs:
            np.testing.assert_allclose(mine, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_as_torch(files: Any, name: str, form: str) -> None:
    it: Files = files(name)
    predictor = fishnet.load(it.path(form), trust=True)
    assert predictor.bundle == it.bundle
    detects = any(head.task in ("detect", "instances") for head in it.bundle.heads.values())
    scenes = zip(predictor.predict(images("detect")), it.torch.predict(images("detect")), strict=True)
    objects = 0
    for ours, theirs in scenes:
        assert isinstance(ours, Scene)
        assert isinstance(theirs, Scene)
        assert list(ours.results) == list(theirs.results) == list(SETS[name])
        for head, result in theirs.results.items():
            assert_alike(ours.results[head], result)
            objects += len(result) if hasattr(result, "boxes") else 0
        assert (ours.panoptic is None) == (theirs.panoptic is None) == (name != "panoptic")
    assert not detects or objects > 5


@pytest.mark.parametrize(("name", "form"), CASES)
def test_only_some_heads(files: Any, name: str, form: str) -> None:
    """What a head computes does not depend on the heads beside it, beyond rounding: libraries fuse other operations."""
    engine = fishnet.load(files(name).path(form), trust=True).engine
    every = engine(batch())
    assert tuple(every) == tuple(engine(batch(), None)) == tuple(SETS[name])
    for head in SETS[name]:
        one = engine(batch(), [head])
        assert tuple(one) == (head,)
        assert_equal(one[head], every[head], 1e-3)
    first, second, *_ = SETS[name]
    assert tuple(engine(batch(), (second, first))) == (first, second), "in the order of the file"
    with pytest.raises(InputError, match="has no head 'wings'"):
        engine(batch(), ["wings"])


def test_the_batch_is_dynamic_where_all_heads_allow_it(files: Any) -> None:
    for name, dynamic in (("maps", True), ("one-stage", True), ("two-stage", False)):
        path = files(name).path("onnx")
        exported = read_exported(path)
        assert exported.dynamic_batch == dynamic
        engine = fishnet.load(path).engine
        together = engine(batch(3))
        for i in range(3):
            for head, outputs in engine(batch(3)[i : i + 1]).items():
                assert len(together[head]) == 3
                assert_equal(outputs, together[head][i : i + 1], 1e-3)


def test_names_and_description(files: Any) -> None:
    """The graph's names say whose outputs they are, and the description has the bundle's config."""
    it: Files = files("two-stage")
    exported = read_exported(it.path("onnx"))
    assert exported.heads == {
        "classify": ("logits",), "detect": ("boxes", "scores", "labels"), "segment": ("logits",)
    }  # fmt: skip
    wanted = ["classify/logits", "detect/boxes", "detect/scores", "detect/labels", "segment/logits"]
    graph = onnx.load(str(it.path("onnx"))).graph
    assert [output.name for output in graph.output] == list(exported.outputs) == wanted
    assert exported.graph_names("segment") == ("segment/logits",)
    assert Exported.from_text(exported.to_text()) == exported
    assert exported.any_size


@pytest.mark.parametrize("form", ["onnx", pytest.param("xml", marks=pytest.mark.slow)])
def test_a_panoptic_models_file_says_how_to_merge(files: Any, form: str) -> None:
    it: Files = files("panoptic")
    assert read_exported(it.path(form)).bundle.panoptic == it.bundle.panoptic is not None


def test_the_graph_of_one_head_is_a_part(files: Any) -> None:
    """It has its own nodes and weights, and nothing that only the others need."""
    content = files("two-stage").path("onnx").read_bytes()
    full = onnx.load_from_string(content)
    sizes = {}
    for names in (["classify/logits"], ["segment/logits"], ["detect/boxes", "detect/labels", "detect/scores"]):
        part = onnx.load_from_string(reduced(content, names))
        onnx.checker.check_model(part)
        assert sorted(output.name for output in part.graph.output) == sorted(names)
        assert part.metadata_props == full.metadata_props
        assert [node for node in full.graph.node if node in part.graph.node] == list(part.graph.node), "in order"
        made = {name for node in part.graph.node for name in node.output}
        used = {name for node in part.graph.node for name in node.input}
        given = {tensor.name for tensor in part.graph.initializer}
        assert given <= used
        assert {name for name in used if name and name not in given | made} == {"image"}
        sizes[names[0]] = len(part.graph.node)
    assert max(sizes.values()) < len(full.graph.node)
    assert reduced(content, [output.name for output in full.graph.output]) == content


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x3a\x7f", b"\x3b\x01", b"\x80"])
def test_no_graph(content: bytes) -> None:
    with pytest.raises(InputError, match="not an ONNX file, or damaged"):
        reduced(content, ["a"])


def test_predicting_loads_no_torch(files: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path, image in zip(paths, images("detect"), strict=False):
        image.save(path)
    for name in ("maps", "two-stage"):
        words = ["predict", str(files(name).path("onnx")), *paths, "--json"]
        said, heavy = heavy_after(f"from fishnet.cli import main; assert main({words!r}) == 0")
        assert heavy == ""
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert len(rows) == 2
        assert all(set(SETS[name]) <= set(row) for row in rows)


def engine_of(outputs: Mapping[str, NDArray[Any]], **described: Any) -> RuntimeEngine:
    """An engine whose graph always gives these outputs, for the heads of the set two-stage."""
    bundle, names = made_set("two-stage")[0], tuple(outputs)
    exported = Exported(bundle, "onnx", **{"outputs": names, "dynamic_batch": False, **described})
    return RuntimeEngine(exported, lambda wanted: lambda _: [outputs[name] for name in wanted], "model.onnx")


def outputs(**changed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Sound outputs of this set, for an image of 96 x 128 px, with some changed: ``detect_boxes`` ..."""
    sound = {
        "classify/logits": np.zeros((1, 4), np.float32),
        "detect/boxes": np.zeros((2, 4), np.float32),
        "detect/scores": np.zeros(2, np.float32),
        "detect/labels": np.array([0, 2]),
        "segment/logits": np.zeros((1, 2, 96, 128), np.float32),
    }
    return {**sound, **{name.replace("_", "/"): value for name, value in changed.items()}}


def test_sound_outputs_pass() -> None:
    found = engine_of(outputs())(batch(1))
    assert {head: len(values) for head, values in found.items()} == {"classify": 1, "detect": 1, "segment": 1}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"classify_logits": np.zeros((1, 3), np.float32)}, r"classify: is described as classify with 4 classes"),
        ({"segment_logits": np.zeros((1, 3, 96, 128), np.float32)}, r"segment/logits must be \(any, 2, any, any\)"),
        ({"segment_logits": np.zeros((1, 2, 90, 128), np.float32)}, r"segment: returns logits of \(1, 2, 90, 128\)"),
        ({"classify_logits": np.zeros((2, 4), np.float32)}, r"classify: returns logits of \(2, 4\)"),
        ({"detect_labels": np.array([0, 3])}, r"detect: returns labels from 0 to 3, but its description has 3 classes"),
        ({"detect_scores": np.zeros(3, np.float32)}, r"detect: returns different numbers of objects: boxes \(2"),
        ({"detect_boxes": np.zeros((2, 5), np.float32)}, r"detect/boxes must be \(any, 4\)"),
    ],
)
def test_outputs_that_do_not_fit_name_their_head(changed: dict[str, Any], words: str) -> None:
    engine = engine_of(outputs(**changed))
    with pytest.raises(InputError, match=words):
        engine(batch(1))
    head = next(iter(changed)).partition("_")[0]
    others = [name for name in SETS["two-stage"] if name != head]
    assert set(engine(batch(1), others)) == set(others), "the other heads are sound"


def test_raw_outputs_that_are_not_finite_name_their_head() -> None:
    bundle = made_set("one-stage")[0]
    names = ("detect/cls_logits", "detect/bbox_regression", "segment/logits", "classify/logits")
    exported = Exported(bundle, "onnx", outputs=names, dynamic_batch=False)
    values = {
        names[0]: np.full((1, 9, 3), np.nan, np.float32), names[1]: np.zeros((1, 9, 4), np.float32),
        names[2]: np.zeros((1, 2, 96, 128), np.float32), names[3]: np.zeros((1, 4), np.float32),
    }  # fmt: skip
    engine = RuntimeEngine(exported, lambda wanted: lambda _: [values[name] for name in wanted])
    with pytest.raises(NotFiniteError, match="outputs of detect are not finite"):
        engine(batch(1))
    assert set(engine(batch(1), ["segment", "classify"])) == {"segment", "classify"}


def test_few_sets_of_heads_are_kept_ready() -> None:
    """A server whose callers choose the heads does not keep a session for each of their choices."""
    prepared: list[tuple[str, ...]] = []
    bundle = made_set("maps")[0]
    heads = {f"h{i}": bundle.heads["classify"] for i in range(10)}
    exported = Exported(replace(bundle, heads=heads), "onnx", outputs=tuple(f"{head}/logits" for head in heads))

    def prepare(names: tuple[str, ...]) -> Any:
        prepared.append(names)
        return lambda images: [np.zeros((len(images), 4), np.float32)] * len(names)

    engine = RuntimeEngine(exported, prepare)
    for head in [*heads, "h9"]:
        engine(batch(), [head])
    engine(batch())
    assert len(prepared) == 11
    assert len(engine._runs) <= 5


def described(**changes: Any) -> str:
    values = json.loads(Exported(made_set("maps")[0], "onnx", outputs=("classify/logits", "segment/logits")).to_text())
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["classify/logits"], r"names the outputs \(\), which segment: segment \(body\) does not have"),
        (["logits", "segment/logits"], r"names the outputs \(\), which classify"),
        (
            ["classify/logits", "segment/logits", "wings/logits"],
            r"outputs of the heads \('wings',\), but its bundle has",
        ),
        (["classify/logits", "segment/boxes"], r"outputs \('boxes',\), which segment"),
        (["classify/logits", "segment/logits", "segment/logits"], r"outputs \('logits', 'logits'\), which segment"),
        (["classify/logits", "segment/x/logits"], "segment"),
        ([["classify/logits"], 3], "outputs without a name"),
        ([], r"names the outputs \(\), which classify"),
    ],
)
def test_descriptions_of_other_heads(names: Any, words: str) -> None:
    Exported.from_text(described())
    with pytest.raises(InputError, match=words):
        Exported.from_text(described(outputs=names))


def test_outputs_of_some_heads_are_compared() -> None:
    exported = Exported.from_text(described())
    check_outputs("model.onnx", exported, {"segment/logits": (1, 2, 64, 64)}, ["segment"])
    with pytest.raises(InputError, match="has an output classify/logits, but the file does not"):
        check_outputs("model.onnx", exported, {"segment/logits": (1, 2, 64, 64)})


def test_a_single_heads_names_have_no_head() -> None:
    bundle = made_set("maps")[0]
    for head, config in bundle.heads.items():
        single = Exported(Bundle("fishnet_nano", {head: config}, Preprocess((96, 96))), "onnx")
        assert single.outputs == single.graph_names(head) == ("logits",)
        assert single.heads == {head: ("logits",)}
