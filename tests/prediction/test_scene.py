"""Several heads in one pass: what they predict together is what each predicts alone."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import fishnet
from fishnet.bundle.bundle import Bundle, HeadConfig, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.errors import InputError, NotFiniteError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.heads import ChosenHeads, select_heads
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Classification, Detections, Panoptic, Scene, Segmentation
from fishnet.prediction.sources import Failure
from fishnet.prediction.tiling import tiles
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import save_weights
from tests import bright
from tests.bright import Rectangle, scene
from tests.several import HEADS, SeveralHeads, alone, preprocess, several

RECTANGLES: tuple[tuple[Rectangle, str], ...] = (
    ((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green"), ((95, 5, 150, 120), "red"), ((0, 90, 40, 126), "dim"),
)  # fmt: skip
PHOTO = scene(150, 128, *RECTANGLES)


def calls(predictor: Predictor) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    assert isinstance(predictor.engine, SeveralHeads)
    return predictor.engine.calls


def plain(result: Any) -> Any:
    """A result's values, with every pixel of a label map."""
    return result.labels.tolist() if isinstance(result, Segmentation) else result.to_dict()


@pytest.mark.parametrize(
    "options", [{}, {"k": 1}, {"threshold": 0.1}, {"max_detections": 1}, {"tile": 64}, {"tta": True},
                {"tile": 50, "overlap": 0.5, "tta": True, "threshold": 0, "max_detections": 2}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("fit", ["whole", "native"])
def test_each_head_predicts_what_it_predicts_alone(fit: str, options: dict[str, Any]) -> None:
    result = several(fit=fit).predict(PHOTO, **options)
    assert isinstance(result, Scene)
    assert list(result.results) == list(HEADS)
    for name in HEADS:
        single = alone(name, fit)
        known = {option: value for option, value in options.items() if option in single.options}
        if "tile" not in known:
            known.pop("overlap", None)
        assert plain(result[name]) == plain(single.predict(PHOTO, **known)), name


def test_one_pass_for_all_heads() -> None:
    predictor = several()
    results = predictor.predict([PHOTO, scene(64, 64), PHOTO])
    assert [type(result).__name__ for result in results] == ["Scene"] * 3
    assert calls(predictor) == [(tuple(HEADS), (2, 3, 64, 96)), (tuple(HEADS), (1, 3, 64, 64))]


@pytest.mark.parametrize("tta", [False, True])
def test_tiles_go_through_once_and_classifiers_see_the_whole_image(tta: bool) -> None:
    predictor = several(fit="native")
    predictor.predict(PHOTO, tile=64, tta=tta)
    count = len(tiles(128, 150, 64))
    by_heads: dict[tuple[str, ...], int] = {}
    for heads, shape in calls(predictor):
        by_heads[heads] = by_heads.get(heads, 0) + shape[0]
    assert by_heads == {("colour",): 1, ("objects", "ground"): count, **({("ground",): 5 * count} if tta else {})}
    assert calls(predictor)[0] == (("colour",), (1, 3, 128, 160))


def test_averages_compute_the_other_heads_once() -> None:
    predictor = several()
    predictor.predict(PHOTO, tta=True)
    assert [heads for heads, _ in calls(predictor)] == [tuple(HEADS), *[("ground",)] * 5]


def test_a_large_image_is_reduced_for_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fishnet.prediction.passes.LARGEST", 100 * 100)
    monkeypatch.setattr("fishnet.prediction.passes._TILE", 96)
    predictor = several(fit="native")
    assert isinstance(predictor.predict(PHOTO), Scene)
    heads, shape = calls(predictor)[0]
    assert (heads, shape) == (("colour",), (1, 3, 96, 128))  # 92 x 108 px, padded
    assert {heads for heads, _ in calls(predictor)[1:]} == {("objects", "ground")}
    two = several("colour", "objects", fit="native")
    two.predict(PHOTO)
    assert [heads for heads, _ in calls(two)] == [("colour", "objects")], "only label maps need tiles"


@pytest.mark.parametrize("batch_size", [1, 3, None])
@pytest.mark.parametrize("options", [{}, {"tile": 64}])
def test_a_stream(batch_size: int | None, options: dict[str, Any], tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    sources = [str(tmp_path / name) for name in ("b.png", "a.png", "a.png", "b.png", "a.png")]
    predictor = several()
    expected = predictor.predict(sources[1], **options).to_dict()
    results = list(predictor.stream(sources, batch_size, **options))
    assert [source for source, _ in results] == sources
    assert [isinstance(result, Failure) for _, result in results] == [True, False, False, True, False]
    assert all(isinstance(result, Failure) or result.to_dict() == expected for _, result in results)


def test_the_steps_give_what_predict_gives() -> None:
    predictor = several()
    given = predictor.preprocess(PHOTO)
    (output,) = predictor.compute([given])
    assert list(output) == list(HEADS)
    assert predictor.postprocess(given, output, k=1).to_dict() == predictor.predict(PHOTO, k=1).to_dict()


def test_what_evaluation_takes() -> None:
    predictor = several()
    assert predictor.options == ("k", "threshold", "max_detections", "tile", "overlap", "tta")
    ((number, output),) = predictor.runner.outputs([predictor.preprocess(PHOTO).pixels])
    assert (number, list(output)) == (0, list(HEADS))
    assert output["colour"].shape == (3,)
    assert set(output["objects"]) == {"boxes", "scores", "labels", "masks"}


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (
            ("colour", "objects"),
            {"tta": True},
            "tta: not an option of colour (classify) and objects (instances)",
        ),
        (("colour", "ground"), {"threshold": 0.5}, "which have k, tile, overlap, tta"),
        ((), {"k": 0}, "k=0: must be a whole number"),
        ((), {"overlap": 0.5}, "give tile too"),
        ((), {"stuff_area": 5}, "stuff_area: not an option"),
    ],
)
def test_bad_options(names: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    for call in (several(*names).predict, several(*names).stream):
        with pytest.raises(InputError) as caught:
            call([], **options)
        assert words in str(caught.value)


@pytest.mark.parametrize("head", ["colour", "objects", "ground"])
@pytest.mark.parametrize("options", [{}, {"tile": 64}])
def test_a_head_whose_outputs_are_not_finite_is_named(head: str, options: dict[str, Any], tmp_path: Path) -> None:
    def breaks(batch: NDArray[np.float32], only: Any = None) -> Any:
        outputs = SeveralHeads()(batch, only)
        for i in np.flatnonzero(batch.max((1, 2, 3)) > 0.4) if head in outputs else ():
            broken = outputs[head][i]["scores"] if head == "objects" else outputs[head][i]
            broken[...] = np.nan
        return outputs

    predictor = several()
    predictor.engine = breaks
    black, red = tmp_path / "black.png", tmp_path / "red.png"
    scene(150, 128).save(black)
    scene(150, 128, ((10, 10, 140, 120), "red")).save(red)
    results = dict(predictor.stream([str(black), str(red), str(black)], **options))
    assert isinstance(results[str(black)], Scene)
    failure = results[str(red)]
    assert isinstance(failure, Failure)
    assert f"outputs of {head} are not finite" in failure.reason
    with pytest.raises(NotFiniteError, match=f"outputs of {head} are"):
        predictor.predict(str(red), **options)


def test_embeddings_come_with_the_scenes(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    predictor, vectors = several(), dict[str, NDArray[np.float32]]()
    ((_, result),) = predictor.stream([str(tmp_path / "a.png")], embedding=vectors.__setitem__)
    assert isinstance(result, Scene)
    assert [vector.shape for vector in vectors.values()] == [(3,)]
    assert len(calls(predictor)) == 1
    np.testing.assert_array_equal(predictor.embed([PHOTO])[0], vectors[str(tmp_path / "a.png")])


def test_heads_in_px_of_the_image_need_images_that_are_not_cropped() -> None:
    heads = {name: HEADS[name] for name in ("colour", "ground")}
    bundle = Bundle("none", heads, Preprocess((32, 32)))
    with pytest.raises(InputError, match=r"ground: predicts in px .* crops its images: leave it out with only=colour"):
        Predictor(bundle, SeveralHeads())
    Predictor(replace(bundle, heads={"colour": heads["colour"]}), SeveralHeads())


def test_scores_are_let_go_before_the_next_are_computed() -> None:
    kept: list[weakref.ref[Any]] = []

    def engine(batch: NDArray[np.float32], only: Any = None) -> dict[str, Any]:
        assert not [ref for ref in kept if ref() is not None]
        outputs = SeveralHeads()(batch, only)
        kept.extend(weakref.ref(outputs[name]) for name in ("colour", "ground") if name in outputs)
        return outputs

    predictor = several(size=640)
    predictor.engine = engine
    assert len(predictor.predict([scene(64, 64)] * 3)) == 3
    predictor.predict(PHOTO, tile=64, tta=True)
    assert len(kept) > 6


@pytest.mark.parametrize("safe", [False, True])
def test_chosen_heads_of_an_engine(safe: bool) -> None:
    """Such as an exported file, which is asked for these outputs only."""
    engine: Any = SeveralHeads()
    engine.thread_safe = safe
    bundle = several().bundle
    chosen = ChosenHeads(engine, ("colour", "ground"))
    assert chosen.thread_safe == safe
    predictor = Predictor(select_heads(bundle, ["ground", "colour"]), chosen)
    result = predictor.predict(PHOTO, tile=64)
    assert isinstance(result, Scene)
    assert {heads for heads, _ in engine.calls} == {("colour",), ("ground",)}
    engine.calls.clear()
    single = Predictor(select_heads(bundle, ["ground"]), ChosenHeads(engine, ("ground",)))
    assert plain(single.predict(PHOTO, tile=64)) == plain(result["ground"])
    assert {heads for heads, _ in engine.calls} == {("ground",)}
    no_embeddings = Predictor(bundle, ChosenHeads(lambda *_: None, tuple(HEADS)))
    with pytest.raises(InputError, match="this engine computes no embeddings"):
        no_embeddings.embed([PHOTO])


# panoptic models


def panoptic(**thresholds: Any) -> Predictor:
    """Red and green are things; the ground, black, is stuff."""
    stuff = Classes(("ground",), (0,))
    heads = {
        "instances": HeadConfig("instances", bright.CLASSES, thresholds={"score": 0.2}),
        "segment": HeadConfig("segment", Classes(("things", "ground"), (1, 0))),
    }
    config = PanopticConfig.of(bright.CLASSES, stuff, **{"stuff_area": 100, **thresholds})

    def engine(batch: NDArray[np.float32], only: Any = None) -> dict[str, Any]:
        dark = np.where((batch[:, :2] < 0).all(1), 1, -1)
        return {
            "instances": bright.BrightRectangles(masks=True)(batch),
            "segment": np.stack([-dark, dark], 1).astype(np.float32),
        }

    return Predictor(Bundle("none", heads, preprocess("native"), panoptic=config), engine)


def segments(result: Any) -> list[str]:
    assert isinstance(result, Scene)
    assert isinstance(result.panoptic, Panoptic)
    return [segment.name for segment in result.panoptic.segments]


@pytest.mark.parametrize("tile", [None, 100])
def test_a_panoptic_model_merges_its_parts(tile: int | None) -> None:
    result = panoptic().predict(PHOTO, tile=tile)
    assert sorted(segments(result)) == ["green", "ground", "red", "red"]
    assert list(result.to_dict()) == ["instances", "segment", "panoptic"]
    assert len(result["instances"]) == 4, "its own threshold is lower than that of merging"  # type: ignore[index]
    assert result.draw(PHOTO).size[0] == 600


@pytest.mark.parametrize(
    ("options", "expected", "instances"),
    [
        ({"panoptic_score": 0.1}, ["green", "ground", "red", "red", "red"], 4),
        ({"panoptic_score": 0.95}, ["ground"], 4),
        ({"threshold": 0.95}, ["green", "ground", "red", "red"], 0),
        ({"max_detections": 1}, ["green", "ground", "red", "red"], 1),
        ({"stuff_area": 10**6}, ["green", "red", "red"], 4),
    ],
)
def test_options_of_merging(options: dict[str, Any], expected: list[str], instances: int) -> None:
    result: Any = panoptic().predict(PHOTO, **options)
    assert sorted(segments(result)) == expected
    assert len(result["instances"]) == instances


# a network


NETWORK_HEADS = {
    "classify": HeadConfig("classify", Classes.of(["blue", "green", "red"])),
    "segment": HeadConfig("segment", Classes.of(["ground", "berry"]), "fpn", {"width": 32}),
    "detect": HeadConfig("detect", Classes.of(["a", "b"]), "faster-rcnn",
                         {"width": 16, "box_width": 16, "proposals": 20, "score_threshold": 0.0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three heads with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("several")
    model = Model.build(ModelSpec("fishnet_nano", NETWORK_HEADS))
    bundle = Bundle("fishnet_nano", NETWORK_HEADS, Preprocess((64, 128), fit="whole"))
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return folder


def counted_heads(predictor: Predictor) -> list[str]:
    """The heads that run from now on, in order."""
    ran: list[str] = []
    engine: Any = predictor.engine
    for name, head in getattr(engine, "engine", engine).model.heads.items():
        head.register_forward_hook(lambda *_, name=name: ran.append(name))
    return ran


def test_a_networks_heads(network: Path) -> None:
    predictor = fishnet.load(network, "cpu")
    ran = counted_heads(predictor)
    result = predictor.predict(PHOTO)
    assert isinstance(result, Scene)
    assert ran == list(NETWORK_HEADS)
    kinds = {"classify": Classification, "segment": Segmentation, "detect": Detections}
    assert {name: type(each) for name, each in result.results.items()} == kinds
    assert predictor.embed([PHOTO, PHOTO]).shape[0] == 2
    tiled = predictor.predict(PHOTO, tile=64, tta=True)
    assert isinstance(tiled, Scene)
    assert tiled["classify"].to_dict() == result["classify"].to_dict()


@pytest.mark.parametrize("names", [("detect",), ("classify",), ("segment", "classify")])
def test_only_the_wanted_heads_are_computed(names: tuple[str, ...], network: Path) -> None:
    everything, predictor = fishnet.load(network, "cpu").predict(PHOTO), fishnet.load(network, "cpu", only=names)
    assert isinstance(everything, Scene)
    ran = counted_heads(predictor)
    result = predictor.predict(PHOTO)
    assert sorted(ran) == sorted(names)
    if len(names) == 1:
        assert result.to_dict() == everything[names[0]].to_dict(), "a single head's own result"
    else:
        assert isinstance(result, Scene)
        assert list(result.results) == ["classify", "segment"], "in the model's order"
        assert result.to_dict() == {name: everything[name].to_dict() for name in result.results}
    if "classify" in names:
        assert predictor.embed([PHOTO]).shape[0] == 1
    else:
        with pytest.raises(InputError, match="no embeddings"):
            predictor.embed([PHOTO])


@pytest.mark.parametrize(
    ("only", "words"),
    [(["detct"], "only='detct': not a head of this model: did you mean detect"), ([], "name one or more heads: cl")],
)
def test_heads_that_a_model_does_not_have(only: list[str], words: str, network: Path) -> None:
    with pytest.raises(InputError, match=words):
        fishnet.load(network, "cpu", only=only)


def test_embeddings_of_two_classifiers_need_a_choice(tmp_path: Path) -> None:
    heads = {
        "species": HeadConfig("classify", Classes.of(["cat", "dog"]), "linear"),
        "age": HeadConfig("classify", Classes.of(["young", "grown", "old"]), "linear"),
    }
    model = Model.build(ModelSpec("fishnet_nano", heads))
    write_bundle(tmp_path, Bundle("fishnet_nano", heads, Preprocess((32, 32))), lambda path: save_weights(model, path))
    predictor = fishnet.load(tmp_path, "cpu")
    result: Any = predictor.predict(PHOTO, k=1)
    assert [len(result[name].rows()) for name in heads] == [1, 1]
    with pytest.raises(InputError, match=r"several classifiers \(species, age\): load only one of them"):
        predictor.embed([PHOTO])
    assert fishnet.load(tmp_path, "cpu", only=["age"]).embed([PHOTO]).shape[0] == 1


def test_not_finite_weights_of_one_head(network: Path) -> None:
    predictor = fishnet.load(network, "cpu")
    heads = predictor.engine.model.heads  # type: ignore[attr-defined]
    next(heads["detect"].parameters()).data.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="outputs of detect are"):
        predictor.predict(PHOTO)


# the scene itself


def a_scene(size: tuple[int, int] = (128, 150)) -> Scene:
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 2 :] = 1
    colours, things = Classes.of(["day", "night"]), Classes(("dog",), (18,))
    box = np.array([[10, 10, 60, 50]], np.float32)
    return Scene(
        {
            "time": Classification(np.array([1, 0]), np.array([0.9, 0.1], np.float32), colours),
            "mood": Classification(np.array([0]), np.array([0.6], np.float32), Classes.of(["calm"])),
            "animals": Detections(box, np.array([0]), np.array([0.8], np.float32), things, size),
            "ground": Segmentation(labels, Classes.of(["background", "grass"])),
        }
    )


def test_a_scene_in_plain_values() -> None:
    given = a_scene()
    values = given.to_dict()
    assert list(values) == ["time", "mood", "animals", "ground"]
    assert values["animals"] == given["animals"].to_dict()
    assert given.columns == (
        "head", "id", "name", "score", "x1", "y1", "x2", "y2", "area", "pixels", "share",
    )  # fmt: skip
    assert [row["head"] for row in given.rows()] == ["time", "time", "mood", "animals", "ground", "ground"]
    assert all(set(row) <= set(given.columns) for row in given.rows())
    assert given.summary().startswith("time: night 90.0 %, day 10.0 %; mood: calm 60.0 %; animals: 1 object: 1 dog; g")


def over(change: Callable[[Scene], Scene]) -> NDArray[np.uint8]:
    """A changed scene's overlay of a grey image."""
    return np.asarray(change(a_scene()).draw(Image.new("RGB", (150, 128), (90, 90, 90))))


def test_one_overlay_shows_every_head() -> None:
    without = {
        name: over(lambda given, name=name: Scene({k: v for k, v in given.results.items() if k != name}))
        for name in a_scene().results
    }
    everything = over(lambda given: given)
    for name, page in without.items():
        assert page.shape[1] == everything.shape[1] == 600, "enlarged like the parts"
        assert page.shape[0] < everything.shape[0], f"the legend or caption of {name}"
        same = page.shape[0] >= 512 and np.array_equal(page[:512], everything[:512])
        assert same == (name in ("time", "mood")), "captions are below the image"


def test_heads_have_different_colours() -> None:
    """The box over the label map has a colour that the label map does not use."""
    page = a_scene().draw(Image.new("RGB", (150, 128), (90, 90, 90))).crop((0, 0, 600, 512))
    labels_only = Scene({"ground": a_scene()["ground"]}).draw(Image.new("RGB", (150, 128), (90, 90, 90)))
    edge = page.getpixel((150, 150))[:3]  # type: ignore[index]
    known = {colour for _, colour in labels_only.crop((0, 0, 600, 512)).getcolors(1 << 20) or ()}
    assert page.getpixel((41, 120)) not in known, "the box's left edge, drawn four times as large"
    assert edge in known, "within the box nothing changes"


def test_a_scene_of_another_image_is_refused() -> None:
    with pytest.raises(InputError, match="150x128 px cannot be drawn on one of 128x150"):
        a_scene().draw(Image.new("RGB", (128, 150)))
    turned = Image.new("RGB", (128, 150))
    turned.getexif()[0x0112] = 6
    assert a_scene().draw(turned).width == 600


def test_a_scene_of_classifiers_only() -> None:
    page = Scene({name: a_scene()[name] for name in ("time", "mood")}).draw(Image.new("RGB", (10, 10)))
    assert page.width >= 240
