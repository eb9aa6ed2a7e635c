"""The Predictor over a segmenter: tiles, averages, and what is kept in memory."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.prediction.blending import Mosaic
from fishnet.prediction.passes import default_tiling
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Segmentation
from fishnet.prediction.sources import Failure
from fishnet.prediction.tiling import tiles
from tests.bright import Rectangle, scene
from tests.pixelwise import CLASSES, Pixelwise, pixelwise

SOME: tuple[tuple[Rectangle, str], ...] = (
    ((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green"), ((95, 5, 150, 120), "red"), ((0, 90, 40, 128), "green"),
)  # fmt: skip


def truth(width: int, height: int, *rectangles: tuple[Rectangle, str]) -> NDArray[np.uint8]:
    """The label map of a scene."""
    labels = np.zeros((height, width), np.uint8)
    for (x1, y1, x2, y2), colour in rectangles:
        labels[y1:y2, x1:x2] = CLASSES.names.index(colour)
    return labels


def labels_of(result: Any) -> NDArray[np.uint8]:
    assert isinstance(result, Segmentation)
    return result.labels


def shapes(predictor: Predictor) -> list[tuple[int, ...]]:
    assert isinstance(predictor.engine, Pixelwise)
    return predictor.engine.shapes


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Blurred(Pixelwise):
    """Sees some px around: what is near the input's edge comes out otherwise than within."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        wide = np.pad(batch, ((0, 0), (0, 0), (3, 3), (3, 3)))
        height, width = batch.shape[2:]
        around = sum(wide[..., y : y + height, x : x + width] for y in range(7) for x in range(7)) / 49
        return super().__call__(np.asarray(around, np.float32))


@pytest.mark.parametrize("size", [(70, 64), (64, 150), (33, 200), (64, 64)])
@pytest.mark.parametrize("fit", ["whole", "native"])
def test_labels_in_px_of_the_image(fit: str, size: tuple[int, int]) -> None:
    image, expected = scene(*size, *SOME), truth(*size, *SOME)
    result = pixelwise(64, fit).predict(image)
    assert isinstance(result, Segmentation)
    assert (result.size, result.labels.dtype) == (size[::-1], np.uint8)
    # within 2 px of an edge resizing decides, which is nearly half of the narrow image's edges
    assert (result.labels == expected).mean() > (0.93 if fit == "whole" else 0.9999)


def test_images_of_any_size_do_not_change_each_other() -> None:
    sizes = [(70, 64), (64, 90), (70, 64), (200, 64), (64, 64), (64, 90)]
    images = [noise(width, height, i) for i, (width, height) in enumerate(sizes)]
    predictor = pixelwise(engine=Blurred())
    together = predictor.predict(images)
    assert sorted(shapes(predictor)) == [(1, 3, 64, 64), (1, 3, 64, 224), (2, 3, 64, 96), (2, 3, 96, 64)]
    for image, result in zip(images, together, strict=True):
        np.testing.assert_array_equal(labels_of(result), labels_of(pixelwise(engine=Blurred()).predict(image)))


# tiles


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("size", [(150, 128), (128, 150), (97, 41), (64, 64), (700, 640)])
@pytest.mark.parametrize("fit", ["whole", "native"])
def test_a_tile_that_covers_the_image_gives_the_whole_images_labels(fit: str, size: tuple[int, int], tta: bool) -> None:
    predictor = pixelwise(64, fit, Blurred())
    whole = labels_of(predictor.predict(noise(*size), tta=tta))
    assert len(np.unique(whole)) == 3
    for tile in (max(size), 2000):
        np.testing.assert_array_equal(labels_of(predictor.predict(noise(*size), tile=tile, tta=tta)), whole)


@pytest.mark.parametrize("fit", ["whole", "native"])
def test_a_network_by_tiles_and_by_the_whole_image(fit: Any, tmp_path: Path) -> None:
    from fishnet.bundle.bundle import Bundle, write_bundle
    from fishnet.images.preprocess import Preprocess
    from fishnet.tasks.loading import load
    from fishnet.tasks.segmentation.heads import SegmenterSpec
    from fishnet.tasks.store import build_from, save_weights

    args = SegmenterSpec(width=16).to_dict()
    preprocess = Preprocess((64, 256), fit=fit)
    bundle = Bundle.single("segment", "fishnet_nano", CLASSES, preprocess, head="body", head_args=args)
    write_bundle(tmp_path, bundle, lambda path: save_weights(build_from(bundle), path))
    predictor, image = load(tmp_path, "cpu"), noise(150, 90)
    whole = labels_of(predictor.predict(image))
    assert whole.shape == (90, 150)
    np.testing.assert_array_equal(labels_of(predictor.predict(image, tile=150)), whole)
    assert labels_of(predictor.predict(image, tile=64, tta=True)).shape == (90, 150)


@pytest.mark.parametrize(("tile", "overlap"), [(64, None), (64, 0.0), (50, 0.5), (33, 0.9), (32, 0.3), (140, None)])
@pytest.mark.parametrize("size", [(150, 128), (97, 41), (32, 300)])
def test_tiles_of_a_net_that_looks_at_single_pixels_give_the_whole_images_labels(
    tile: int, overlap: float | None, size: tuple[int, int]
) -> None:
    predictor = pixelwise(64, "native")
    image = noise(*size)
    whole, tiled = predictor.predict(image), predictor.predict(image, tile=tile, overlap=overlap)
    np.testing.assert_array_equal(labels_of(tiled), labels_of(whole))
    assert max(max(shape[2:]) for shape in shapes(predictor)[1:]) <= max(64, -(-tile // 32) * 32)


def test_tiles_are_of_one_scale_and_see_more() -> None:
    small: tuple[tuple[Rectangle, str], ...] = tuple(((x, 100, x + 2, 102), "red") for x in range(1, 400, 41))
    image, predictor = scene(400, 400, *small), pixelwise(64)
    assert labels_of(predictor.predict(image)).max() == 0, "at a sixth of its size they are gone"
    np.testing.assert_array_equal(labels_of(predictor.predict(image, tile=64)), truth(400, 400, *small))
    assert {shape[1:] for shape in shapes(predictor)} == {(3, 64, 64)}


def says(number: int, size: tuple[int, int] = (1, 1), share: float = 0.9) -> NDArray[np.float32]:
    """Probabilities of three classes that are for one of them."""
    likely = np.full((3, *size), (1 - share) / 2, np.float32)
    likely[number] = share
    return likely


def test_a_tile_counts_less_towards_its_edges_within_the_image() -> None:
    mosaic = Mosaic((100, 160), 3)
    for place, number in zip(tiles(100, 160, 100, 0.4), (1, 2), strict=True):
        mosaic.add(place, says(number))
    labels = mosaic.labels()
    assert (labels[:, :80] == 1).all(), "the middle of what both see is as far from either edge"
    assert (labels[:, 80:] == 2).all()
    mosaic = Mosaic((160, 100), 3)
    for place, share in zip(tiles(160, 100, 100, 0.4), (0.6, 0.9), strict=True):
        mosaic.add(place, says(1 if share < 0.9 else 2, share=share))
    first = np.flatnonzero((mosaic.labels() == 2).all(1))[0]
    # of rows 60 to 100: 0.6 a + 0.05 b < 0.2 a + 0.9 b for weights a = 100 - y and b = y - 60
    assert first == 100 - np.floor(40 * 0.85 / 1.25)


@pytest.mark.parametrize("seed", range(5))
def test_a_mosaic_is_the_weighted_mean_of_its_tiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 120, 2).tolist()
    side, overlap = int(rng.integers(10, 60)), float(rng.uniform(0, 0.8))
    places = tiles(height, width, side, overlap)
    parts = [rng.uniform(size=(4, bottom - top, right - left)) for top, left, bottom, right in places]
    mosaic, total = Mosaic((height, width), 4), np.zeros((4, height, width))
    for (top, left, bottom, right), part in zip(places, parts, strict=True):
        mosaic.add((top, left, bottom, right), part.astype(np.float32))
        rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
        down = np.minimum(rows - top if top else np.inf, bottom - rows if bottom < height else np.inf)
        across = np.minimum(columns - left if left else np.inf, right - columns if right < width else np.inf)
        weights = np.outer(np.minimum(down, bottom - top), np.minimum(across, right - left))
        total[:, top:bottom, left:right] += part * weights / ((bottom - top) * (right - left))
    best = np.sort(total, 0)[-2:]
    clear = best[1] - best[0] > 1e-5 * best[1]  # float32 may decide the others either way
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(mosaic.labels()[clear], total.argmax(0)[clear])


def test_no_more_than_a_band_of_a_mosaic_is_kept() -> None:
    mosaic = Mosaic((1000, 300), 3)
    for place in tiles(1000, 300, 100, 0.25):
        mosaic.add(place, says(1))
        assert mosaic._band.shape == (3, 100, 300)
    assert (mosaic.labels() == 1).all()


@pytest.mark.parametrize("tile", [None, 64])
def test_a_large_image_in_its_own_size_is_tiled_by_itself(tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fishnet.prediction.passes.LARGEST", 200 * 200)
    monkeypatch.setattr("fishnet.prediction.passes._TILE", 96)
    predictor = pixelwise(64, "native", Pixelwise())
    for size, largest in (((200, 200), 224), ((250, 200), 256)):
        image = noise(*size)
        shapes(predictor).clear()
        assert labels_of(predictor.predict(image, tile=tile)).shape == size[::-1]
        sides = {max(shape[2:]) for shape in shapes(predictor)}
        assert sides == {64 if tile else largest if size == (200, 200) else 256}, "tiles of the bundle's longer side"
    shapes(predictor).clear()
    pixelwise(64, "whole", predictor.engine).predict(noise(2000, 2000))
    assert shapes(predictor) == [(1, 3, 64, 64)]


def test_embeddings_are_of_every_image_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Embedding(Pixelwise):
        def embed(self, batch: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
            return self(batch), batch.mean((2, 3))

    monkeypatch.setattr("fishnet.prediction.passes.LARGEST", 100 * 100)
    for i, side in enumerate((64, 200)):
        Image.fromarray(noise(side, side)).save(tmp_path / f"{i}.png")
    vectors: dict[str, NDArray[np.float32]] = {}
    predictor = pixelwise(64, "native", Embedding())
    results = list(predictor.stream([str(tmp_path / f"{i}.png") for i in (0, 1)], embedding=vectors.__setitem__))
    assert list(vectors) == [source for source, _ in results]
    assert [shape[2:] for shape in shapes(predictor)] == [(64, 64), (224, 224)]


def test_many_classes_make_a_image_large_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    from fishnet.bundle.classes import Classes

    monkeypatch.setattr("fishnet.prediction.passes.LARGEST", 200 * 200)
    monkeypatch.setattr("fishnet.prediction.passes._TILE", 96)
    many = pixelwise(32, "native", Pixelwise(), Classes.of(map(str, range(64))))
    assert default_tiling(many.bundle, (100, 199)) is None
    assert default_tiling(many.bundle, (100, 201)) == (128, 0.2)


# averages


class LeftIsRed:
    """Says red on the left half of whatever it is given, less surely something else on the right."""

    def __init__(self) -> None:
        self.shapes = list[tuple[int, ...]]()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        likely = np.broadcast_to(says(0, share=0.6), (len(batch), 3, 1, 1)).repeat(batch.shape[2], 2)
        likely = likely.repeat(batch.shape[3], 3)
        likely[..., : batch.shape[3] // 2] = says(1)
        return np.log(likely)


def test_averages_are_over_mirrored_images_and_three_scales() -> None:
    engine = LeftIsRed()
    predictor = pixelwise(128, engine=engine)
    image = Image.new("RGB", (160, 128))
    assert set(np.unique(labels_of(predictor.predict(image)))) == {0, 1}
    # each px: (0.9 + 0.2) / 2 for red, (0.05 + 0.6) / 2 for background
    assert (labels_of(predictor.predict(image, tta=True)) == 1).all()
    assert engine.shapes[1:] == [(1, 3, 128, 160)] * 2 + [(1, 3, 96, 128)] * 2 + [(1, 3, 160, 224)] * 2


@pytest.mark.parametrize("tile", [None, 100])
@pytest.mark.parametrize("fit", ["whole", "native"])
def test_averages_are_where_the_image_is(fit: str, tile: int | None) -> None:
    size = (171, 130)
    result = labels_of(pixelwise(130, fit).predict(scene(*size, *SOME), tta=True, tile=tile))
    differing = result != truth(*size, *SOME)
    # a px on either side of the edges, some 570 px long
    assert differing.sum() < 700
    inner = np.zeros_like(differing)
    for x1, y1, x2, y2 in ((12, 14, 28, 20), (42, 32, 58, 56), (97, 7, 148, 118), (0, 92, 38, 126), (62, 0, 93, 130)):
        inner[y1:y2, x1:x2] = True
    assert not (differing & inner).any()


def test_tiles_and_averages_go_together() -> None:
    predictor = pixelwise(64, "native")
    labels_of(predictor.predict(noise(150, 128), tta=True, tile=64))
    assert {shape[1:] for shape in shapes(predictor)} == {(3, 64, 64), (3, 96, 96)}
    assert sum(shape[0] for shape in shapes(predictor)) == 6 * len(tiles(128, 150, 64))


# memory, order, options


def test_large_images_in_their_own_size_go_through_in_small_steps() -> None:
    predictor = pixelwise(64, "native")
    predictor.predict([noise(512, 512)] * 7)
    assert [shape[0] for shape in shapes(predictor)] == [6, 1], "six of 512 x 512 are 32 of 224 x 224"
    predictor = pixelwise(64, "native")
    predictor.predict(noise(512, 1536), tile=512, overlap=0)
    assert [shape[0] for shape in shapes(predictor)] == [3]


def test_scores_are_let_go_before_the_next_are_computed() -> None:
    kept: list[weakref.ref[Any]] = []

    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        assert not [ref for ref in kept if ref() is not None]
        logits = Pixelwise()(batch)
        kept.append(weakref.ref(logits))
        return logits

    predictor = pixelwise(640, engine=engine)
    assert predictor.batch_size == 1
    assert len(predictor.predict([noise(64, 64)] * 4)) == 4
    assert len(kept) == 4


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"tta": True}, {"tile": 64, "tta": True}])
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_a_stream_keeps_order(batch_size: int | None, options: dict[str, Any], tmp_path: Path) -> None:
    scene(150, 128, *SOME).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    sources = [str(tmp_path / name) for name in ("b.png", "a.png", "b.png", "b.png", "a.png")]
    predictor = pixelwise(128)
    results = list(predictor.stream(sources, batch_size, **options))
    assert [source for source, _ in results] == sources
    assert [isinstance(result, Failure) for _, result in results] == [True, False, True, True, False]
    assert batch_size is None or all(shape[0] <= batch_size for shape in shapes(predictor))
    expected = labels_of(predictor.predict(sources[1], **options))
    for _, result in results[1::3]:
        np.testing.assert_array_equal(labels_of(result), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 3}, "k: not an option of segment, which has tile, overlap, tta"),
        ({"threshold": 0.5}, "threshold: not an option of segment"),
        ({"tile": 10}, "tile=10: must be a whole number, 32 or more"),
        ({"overlap": 0.5}, "give tile too"),
        ({"tta": 1}, "tta=1: must be true or false"),
        ({"tta": "yes"}, "tta='yes': must be true or false"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    for call in (pixelwise().predict, pixelwise().stream):
        with pytest.raises(InputError) as caught:
            call([], **options)
        assert words in str(caught.value)


@pytest.mark.parametrize("options", [{"tile": 64}, {"tta": True}])
def test_embeddings_are_of_one_pass_over_whole_images(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave out tile and tta"):
        pixelwise().stream([], embedding=lambda *_: None, **options)


def test_a_turned_photo_is_predicted_upright() -> None:
    image = scene(64, 70, SOME[0]).transpose(Image.Transpose.ROTATE_90)
    image.getexif()[0x0112] = 6  # to be turned clockwise
    for options in ({}, {"tile": 40}):
        np.testing.assert_array_equal(
            labels_of(pixelwise(64, "native").predict(image, **options)), truth(64, 70, SOME[0])
        )


def test_other_numbers_of_channels() -> None:
    from dataclasses import replace

    predictor = pixelwise(64, "native")
    preprocess = replace(predictor.bundle.preprocess, mean=(0.5,) * 4, std=(1.0,) * 4)
    predictor = Predictor(replace(predictor.bundle, preprocess=preprocess), Pixelwise())
    array = np.zeros((128, 150, 4), np.uint8)
    array[..., :3] = np.asarray(scene(150, 128, *SOME))
    for options in ({}, {"tile": 64}):
        np.testing.assert_array_equal(labels_of(predictor.predict(array, **options)), truth(150, 128, *SOME))
    assert (labels_of(predictor.predict(array, tta=True)) == truth(150, 128, *SOME)).mean() > 0.95
