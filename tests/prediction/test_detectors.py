"""The Predictor over a region model: sizes of images, thresholds, tiles and videos."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.errors import InputError
from fishnet.images.video import VideoWriter
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Detections
from fishnet.prediction.sources import Failure, find_sources
from tests.bright import BrightRectangles, Rectangle, bright, scene

PAIR: tuple[tuple[Rectangle, str], ...] = (((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green"))


def shapes(predictor: Predictor) -> list[tuple[int, ...]]:
    assert isinstance(predictor.engine, BrightRectangles)
    return predictor.engine.shapes


def found(result: Any, *rectangles: tuple[Rectangle, str], atol: float = 0.01) -> None:
    """Those rectangles and no others."""
    assert isinstance(result, Detections)
    given = sorted((tuple(box), name) for box, name in zip(result.boxes.tolist(), result.names, strict=True))
    expected = sorted((box, colour) for box, colour in rectangles)
    assert [name for _, name in given] == [colour for _, colour in expected]
    np.testing.assert_allclose([box for box, _ in given], [box for box, _ in expected], atol=atol)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("size", [32, 64, 128, 192])
def test_objects_in_px_of_the_image(size: int, masks: bool) -> None:
    result = bright(size, masks).predict(scene(70, 64, *PAIR))
    found(result, *PAIR, atol=1 if size < 64 else 0.6)  # the network's px is half a px of the image, or two
    assert isinstance(result, Detections)
    assert (result.size, result.to_dict()["task"]) == ((64, 70), "instances" if masks else "detect")


def test_images_of_any_size_do_not_change_each_other() -> None:
    sizes = [(70, 64), (64, 90), (70, 64), (200, 64), (64, 64), (64, 90)]
    images = [scene(width, height, *PAIR[: 1 + i % 2]) for i, (width, height) in enumerate(sizes)]
    predictor = bright()
    together = predictor.predict(images)
    assert sorted(shapes(predictor)) == [(1, 3, 64, 64), (1, 3, 64, 224), (2, 3, 64, 96), (2, 3, 96, 64)]
    for i, (image, result) in enumerate(zip(images, together, strict=True)):
        found(result, *PAIR[: 1 + i % 2])
        assert result.to_dict() == bright().predict(image).to_dict()


def test_large_input_goes_through_in_small_steps() -> None:
    predictor = bright(640)
    assert predictor.batch_size == 1
    predictor.predict([scene(64, 64, *PAIR)] * 3)
    assert shapes(predictor) == [(1, 3, 640, 640)] * 3
    assert bright(64).batch_size == 32


@pytest.mark.parametrize(
    ("thresholds", "given", "count"),
    [
        ({}, None, 2),
        ({}, 0.5, 1),
        ({"score": 0.5}, None, 1),
        ({"score": 0.5}, 0.1, 2),
        ({"score": 0.5}, 0, 2),
        ({}, 1, 0),
    ],
)
@pytest.mark.parametrize("tile", [None, 40])
def test_threshold(thresholds: dict[str, float], given: float | None, count: int, tile: int | None) -> None:
    image = scene(64, 64, ((5, 5, 20, 20), "red"), ((40, 40, 60, 60), "dim"))
    result = bright(thresholds=thresholds).predict(image, threshold=given, tile=tile)
    assert isinstance(result, Detections)
    assert len(result) == count


@pytest.mark.parametrize("tile", [None, 40])
def test_most(tile: int | None) -> None:
    result = bright().predict(
        scene(64, 64, ((40, 40, 60, 60), "dim"), ((5, 5, 20, 20), "red")), max_detections=1, tile=tile
    )
    found(result, ((5, 5, 20, 20), "red"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 3}, "k: not an option of detect, which has threshold, max_detections, tile, overlap"),
        ({"threshold": 1.5}, "threshold=1.5: must be a number, 0 to 1"),
        ({"threshold": "high"}, "threshold='high': must be a number"),
        ({"threshold": float("nan")}, "must be a number"),
        ({"tile": 10}, "tile=10: must be a whole number, 32 or more"),
        ({"tile": 64.5}, "must be a whole number"),
        ({"tile": True}, "must be a whole number"),
        ({"tile": 64, "overlap": 0.95}, "overlap=0.95: must be a number, 0 to 0.9"),
        ({"overlap": 0.5}, "give tile too"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        bright().predict([], **options)
    assert words in str(caught.value)
    with pytest.raises(InputError):
        bright().stream([], **options)


# tiles


# an image of 300x200 px in tiles of 100: these begin at 0, 67, 133 and 200 across, at 0, 50 and 100 down
ON_SEAMS: tuple[tuple[Rectangle, str], ...] = (
    ((5, 5, 25, 25), "red"),  # on none
    ((90, 10, 110, 25), "red"),  # across the end of the first tile
    ((60, 60, 150, 75), "red"),  # across two seams, larger than the overlap
    ((20, 90, 40, 115), "red"),  # across the first row's end
    ((92, 92, 108, 108), "red"),  # at the crossing of four
    ((130, 85, 145, 180), "red"),  # larger than the overlap down
    ((160, 20, 290, 40), "red"),  # longer than a tile
    ((160, 42, 290, 60), "red"),  # and its neighbour
    ((195, 120, 205, 130), "red"),
    ((195, 120, 205, 130), "green"),  # in one place, of another class
    ((210, 150, 300, 200), "red"),  # at the image's corner
)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(("tile", "overlap"), [(100, None), (100, 0.5), (120, 0.0), (80, 0.2), (64, 0.4), (1000, None)])
def test_an_object_on_a_seam_is_found_once(tile: int, overlap: float | None, masks: bool) -> None:
    image = np.maximum(*(
        np.asarray(scene(300, 200, *(pair for pair in ON_SEAMS if pair[1] == colour))) for colour in ("red", "green")
    ))  # fmt: skip
    predictor = bright(min(tile, 200), masks)
    result = predictor.predict(image, tile=tile, overlap=overlap)
    found(result, *ON_SEAMS)
    assert isinstance(result, Detections)
    if masks:
        for mask, (x1, y1, x2, y2) in zip(result.masks, result.boxes.round().astype(int).tolist(), strict=True):
            assert mask[y1:y2, x1:x2].all()
            assert mask.sum() == (y2 - y1) * (x2 - x1)
    if tile < 200:
        assert len({shape[1:] for shape in shapes(predictor)}) == 1, "all tiles are of one size"


def test_tiles_are_preprocessed_like_images_and_see_more() -> None:
    small: tuple[tuple[Rectangle, str], ...] = tuple(((x, 100, x + 2, 102), "red") for x in range(1, 400, 41))
    image = scene(400, 400, *small)
    predictor = bright(64)
    whole, tiled = predictor.predict(image), predictor.predict(image, tile=64)
    assert isinstance(whole, Detections)
    assert len(whole) < 8, "at a sixth of its size most are gone"
    found(tiled, *small)


def test_grey_levels_are_stretched_over_the_image_and_not_over_each_tile() -> None:
    from dataclasses import replace

    predictor = bright(64)
    preprocess = replace(predictor.bundle.preprocess, sixteen_bit="stretch")
    predictor = Predictor(replace(predictor.bundle, preprocess=preprocess), predictor.engine)
    array = np.full((64, 200), 1000, np.uint16)
    array[10:30, 5:15] = 4000  # bright in its tile, dark in the image
    array[10:60, 150:190] = 40_000
    for tile in (None, 64):
        result = predictor.predict(array, tile=tile)
        assert isinstance(result, Detections)
        assert {tuple(box) for box in result.boxes.round().tolist()} == {(150, 10, 190, 60)}


def test_a_stream_of_tiled_images_keeps_order(tmp_path: Path) -> None:
    scene(300, 200, *ON_SEAMS[:3]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    sources = [str(tmp_path / name) for name in ("b.png", "a.png", "b.png", "b.png", "a.png")]
    predictor = bright()
    results = list(predictor.stream(sources, 4, tile=100))
    assert [source for source, _ in results] == sources
    assert [isinstance(result, Failure) for _, result in results] == [True, False, True, True, False]
    found(results[1][1], *ON_SEAMS[:3], atol=1)
    assert {shape[0] for shape in shapes(predictor)} == {4}, "twelve tiles in steps of four"


def test_embeddings_are_of_whole_images() -> None:
    with pytest.raises(InputError, match="leave out tile"):
        bright().stream([], tile=100, embedding=lambda *_: None)


# videos


def clip(path: Path, count: int = 5) -> str:
    """A rectangle that moves right by 20 px a frame."""
    pytest.importorskip("av")
    writer = VideoWriter(path, Fraction(10))
    for i in range(count):
        writer.add(scene(128, 64, ((20 * i, 16, 20 * i + 16, 48), "green")))
    writer.close()
    return str(path)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("tile", [None, 64])
def test_the_frames_of_a_video(batch_size: int, tile: int | None, tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    scene(128, 64).save(tmp_path / "a.png")
    results = list(bright().stream([path, str(tmp_path / "a.png")], batch_size, tile=tile))
    assert [source for source, _ in results] == [*(f"{path}#{i}" for i in range(5)), str(tmp_path / "a.png")]
    for i, (_, result) in enumerate(results[:5]):
        assert isinstance(result, Detections)
        assert result.size == (64, 128)
        assert len(result) >= 1
        # 3: compression blurs edges
        np.testing.assert_allclose(result.boxes[0], [20 * i, 16, 20 * i + 16, 48], atol=3)


def test_a_broken_video_is_a_failure_in_its_place(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "bad.mp4").write_text("no video")
    scene(64, 64).save(tmp_path / "a.png")
    sources = [str(tmp_path / name) for name in ("a.png", "bad.mp4", "missing.mov", "a.png")]
    results = list(bright().stream(sources))
    assert [source for source, _ in results] == sources
    bad, missing = results[1][1], results[2][1]
    assert isinstance(bad, Failure)
    assert isinstance(missing, Failure)
    assert "bad.mp4: not a video that can be read" in bad.reason
    assert missing.reason == f"{sources[2]}: no such file"


def test_videos_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.MP4", "a.png", "sub/c.webm", ".hidden/d.mp4", ".e.mov", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_sources(["."]) == ["a.png", "b.MP4", "sub/c.webm"]
    assert find_sources(["*.MP4", "sub/c.webm", "sub"]) == ["b.MP4", "sub/c.webm", "sub/c.webm"]


def test_a_turned_photo_is_predicted_upright() -> None:
    image = scene(64, 70, ((10, 12, 30, 22), "red")).transpose(Image.Transpose.ROTATE_90)
    image.getexif()[0x0112] = 6  # to be turned clockwise
    found(bright().predict(image), ((10, 12, 30, 22), "red"))
    found(bright().predict(image, tile=50), ((10, 12, 30, 22), "red"), atol=1)
