"""The Predictor over any engine, and what the user's sources mean."""

import io
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.bundle import Bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, NotFiniteError, WorkError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Classification
from fishnet.prediction.sources import Failure, find_sources
from fishnet.tasks.loading import load
from fishnet.tasks.store import build_from, save_weights
from tests.makers import image

COLOURS = Classes(("red", "green", "blue"), (30, 10, 20))
BUNDLE = Bundle.single("classify", "fishnet_nano", COLOURS, Preprocess((32, 32)))


class Brightest:
    """An engine without torch: the logits are the channels' means. Keeps the shapes it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        assert batch.dtype == np.float32
        self.shapes.append(batch.shape)
        return batch.mean((2, 3))


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(BUNDLE, Brightest())


def shapes(predictor: Predictor) -> list[tuple[int, ...]]:
    assert isinstance(predictor.engine, Brightest)
    return predictor.engine.shapes


def names(results: Sequence[Any]) -> list[str]:
    return [result.name if isinstance(result, Classification) else "" for result in results]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of a red, a green, a blue and another red image."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i, colour in enumerate(("red", "green", "blue", "red")):
        paths.append(str(folder / f"{i}.png"))
        image(colour, i).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network's bundle."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, BUNDLE, lambda path: save_weights(build_from(BUNDLE), path))
    return folder


# images


def test_every_way_to_give_a_image(predictor: Predictor, images: list[str]) -> None:
    image = Image.open(images[1])
    expected = predictor.predict(images[1]).to_dict()
    assert expected["predictions"][0]["id"] == 10
    for given in (Path(images[1]), image, np.asarray(image)):
        assert predictor.predict(given).to_dict() == expected
    assert set(shapes(predictor)) == {(1, 3, 32, 32)}


def test_a_list_is_one_batch_in_order(predictor: Predictor, images: list[str]) -> None:
    results = predictor.predict(images)
    assert names(results) == ["red", "green", "blue", "red"]
    assert shapes(predictor) == [(4, 3, 32, 32)]
    mixed = predictor.predict((Path(images[2]), Image.open(images[0]), np.asarray(Image.open(images[1]))))
    assert names(mixed) == ["blue", "red", "green"]
    assert predictor.predict([]) == []


def test_options_of_the_task(predictor: Predictor, images: list[str]) -> None:
    assert len(predictor.predict(images[0], k=2).rows()) == 2


def test_a_batch_equals_single_images(real: Path, images: list[str]) -> None:
    predictor = load(real, "cpu")
    batch = predictor.predict(images)
    for path, result in zip(images, batch, strict=True):
        single = predictor.predict(path)
        assert isinstance(single, Classification)
        assert isinstance(result, Classification)
        assert single.labels.tolist() == result.labels.tolist()
        # 1e-5: convolutions sum in another order for another batch size; float32 has 1e-7 of each of some ten layers
        np.testing.assert_allclose(single.scores, result.scores, atol=1e-5)


def test_a_grey_array_and_a_grey_model(predictor: Predictor) -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    in_colour = np.repeat(array[..., None], 3, -1)
    assert predictor.predict(array).to_dict() == predictor.predict(in_colour).to_dict()
    grey = Predictor(
        Bundle.single("classify", "x", Classes.of(["only"]), Preprocess((32, 32), mean=(0.5,), std=(0.5,))), Brightest()
    )
    assert grey.predict(array).rows()[0]["name"] == "only"
    assert shapes(grey) == [(1, 1, 32, 32)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint16), "uint16"),
        (np.zeros((8, 8), bool), "bool"),
        (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4)"),
        (np.zeros((8, 8, 1), np.uint8), "(8, 8, 1)"),
        (np.zeros((3, 8, 8), np.uint8), "(3, 8, 8)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "(2, 8, 8, 3)"),
        (np.zeros(8, np.uint8), "(8,)"),
        (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3)"),
        (7, "int"),
        (None, "NoneType"),
        (torch.zeros(3, 8, 8), "float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image(array: Any, words: str, predictor: Predictor) -> None:
    for given in (array, [array]):
        if given is array and not isinstance(array, np.ndarray):
            continue  # neither an image nor a sequence of images
        with pytest.raises(InputError) as caught:
            predictor.predict(given)
        assert words in str(caught.value)
        assert "uint8" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(predictor: Predictor, images: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.png: no such file"):
        predictor.predict([images[0], str(tmp_path / "missing.png")])


# streams


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_a_stream_keeps_order_and_goes_on_after_failures(
    batch_size: int, predictor: Predictor, images: list[str], tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    bad = [str(tmp_path / "text.png"), str(tmp_path / "missing.png")]
    sources = [bad[0], images[0], images[1], bad[1], images[2], bad[0], bad[1], images[3], images[3]]
    found = list(predictor.stream(iter(sources), batch_size))
    assert [source for source, _ in found] == sources
    assert names([result for _, result in found]) == ["", "red", "green", "", "blue", "", "", "red", "red"]
    failures = [result for _, result in found if isinstance(result, Failure)]
    assert failures[0] == Failure(bad[0], f"{bad[0]}: not an image that can be read")
    assert failures[1].reason == f"{bad[1]}: no such file"
    assert all(shape[0] <= batch_size for shape in shapes(predictor))


def test_a_stream_reads_no_further_than_its_batch(predictor: Predictor, images: list[str]) -> None:
    def sources() -> Any:
        yield from images
        raise AssertionError("read too far")

    stream = predictor.stream(sources(), 2)
    assert [next(stream)[0] for _ in range(4)] == images


def test_an_abandoned_stream_leaves_no_thread(predictor: Predictor, images: list[str]) -> None:
    before = threading.active_count()
    stream = predictor.stream(images * 50, 2)
    assert next(stream)[0] == images[0]
    stream.close()  # type: ignore[attr-defined]  # a generator
    for _ in range(500):
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before, "threads of earlier tests may have ended, too"
    assert len(shapes(predictor)) == 1


def test_the_network_runs_in_the_caller_s_thread(images: list[str]) -> None:
    """There an interrupt ends it, and the allocator keeps its memory."""
    seen: set[int] = set()

    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.add(threading.get_ident())
        return batch.mean((2, 3))

    assert len(list(Predictor(BUNDLE, engine).stream(images * 4, 2))) == 16
    assert seen == {threading.get_ident()}


def test_an_empty_stream(predictor: Predictor) -> None:
    assert list(predictor.stream([])) == []


# sources


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a.jpg", "c.txt", "sub/d.PNG", "sub/deep/e.png", ".f.png", "odd[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (["b.png"], ["b.png"]),
        (["c.txt", "missing.png"], ["c.txt", "missing.png"]),  # named themselves: kept, and reported later
        (["."], ["a.jpg", "b.png", "odd[1].png", "sub/d.PNG", "sub/deep/e.png"]),
        (["sub"], ["sub/d.PNG", "sub/deep/e.png"]),
        (["*.png"], ["b.png", "odd[1].png"]),
        (["*"], ["a.jpg", "b.png", "c.txt", "odd[1].png"]),
        (["**/*.png"], ["b.png", "odd[1].png", "sub/deep/e.png"]),
        (["sub/*/e.png"], ["sub/deep/e.png"]),
        (["odd[1].png"], ["odd[1].png"]),  # a file of that very name is no pattern
        (["[ab].*"], ["a.jpg", "b.png"]),
        (["sub", "b.png", "sub/d.PNG"], ["sub/d.PNG", "sub/deep/e.png", "b.png", "sub/d.PNG"]),
    ],
)
def test_sources(sources: list[str], found: list[str], tree: Path) -> None:
    assert find_sources(sources) == found
    absolute = [os.path.join(tree, source) for source in sources]  # noqa: PTH118 (a pattern is no path)
    assert [os.path.relpath(file, tree) for file in find_sources(absolute)] == found


@pytest.mark.parametrize(
    ("source", "words"), [("empty", "empty: no images in this folder"), ("*.bmp", "no file matches")]
)
def test_sources_without_a_image(source: str, words: str, tree: Path) -> None:
    with pytest.raises(InputError, match=words):
        find_sources(["b.png", source])


def test_a_list_on_standard_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.jpg\n\n  missing.png \n"))
    assert find_sources(["b.png", "-"]) == ["b.png", "a.jpg", "missing.png"]


# loading


def test_load(real: Path) -> None:
    assert load(str(real), "cpu").bundle.classes == COLOURS


def test_load_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, not a bundle"):
        load(tmp_path / "file")
    with pytest.raises(InputError, match="no such bundle"):
        load(tmp_path / "nowhere")


def test_an_unknown_device(real: Path) -> None:
    with pytest.raises(InputError, match="device 'gpu' is not available here: choose from auto, cpu"):
        load(real, "gpu")


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_no_result(images: list[str], value: float, batch_size: int) -> None:
    """The image is named, and the others of its batch are predicted."""

    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = batch.mean((2, 3))
        logits[logits.argmax(1) == 2, 1] = value  # blue ones
        return logits

    predictor = Predictor(BUNDLE, engine)
    found = dict(predictor.stream(images, batch_size))
    assert [isinstance(result, Failure) for result in found.values()] == [False, False, True, False]
    failure = found[images[2]]
    assert isinstance(failure, Failure)
    assert failure.reason.startswith(f"{images[2]}: ")
    assert "not finite" in failure.reason
    with pytest.raises(WorkError, match="not finite"):
        predictor.predict(images)
    assert names(predictor.predict(images[:2])) == ["red", "green"]


def test_an_engine_that_refuses_a_batch_is_asked_for_each_image(images: list[str]) -> None:
    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = batch.mean((2, 3))
        if (logits.argmax(1) == 2).any():
            raise NotFiniteError
        return logits

    found = dict(Predictor(BUNDLE, engine).stream(images))
    assert [isinstance(result, Failure) for result in found.values()] == [False, False, True, False]
