"""Drawing: what can be measured of it."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fishnet.errors import InputError
from fishnet.prediction.drawing import (
    card,
    colour_of,
    draw_labels,
    draw_objects,
    font,
    label_colour,
    score_panel,
    sheet,
)
from fishnet.prediction.drawing.labels import count_labels
from fishnet.prediction.drawing.objects import write_labels
from fishnet.prediction.drawing.panels import _BAR
from fishnet.prediction.drawing.text import fitted, in_rows
from fishnet.prediction.results import CroppedMask

SIZE = (400, 100)


def drawn(*rows: tuple[str, float], size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.asarray(score_panel(Image.new("RGB", size, "white"), rows))


def bar_length(panel: NDArray[np.uint8], row: int = 0, rows: int = 1, height: int = 100) -> int:
    """Pixels of the bar's colour in the second line of pixels of a row's bar, above the letters."""
    line = round(max(13, panel.shape[1] // 28) * 1.6)
    assert panel.shape[0] == height + line * rows + line // 2
    return int((panel[height + line // 4 + row * line + 2] == _BAR).all(-1).sum())


@pytest.mark.parametrize("score", [0.0, 0.01, 0.25, 0.5, 0.999, 1.0])
def test_a_bars_length_is_its_score(score: float) -> None:
    # from pixel 0 to round(399 * score), at least to pixel 1, both inclusive
    assert bar_length(drawn(("", score))) == max(1, round(399 * score)) + 1


def test_each_row_has_its_bar() -> None:
    panel = drawn(("a", 0.7), ("b", 0.2), ("c", 0.1))
    lengths = [bar_length(panel, row, 3) for row in range(3)]
    assert lengths == [round(399 * score) + 1 for score in (0.7, 0.2, 0.1)]


def test_the_image_is_above_the_panel_as_it_was() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 400, 3), dtype=np.uint8)
    panel = np.asarray(score_panel(Image.fromarray(noise), [("a", 0.5)]))
    np.testing.assert_array_equal(panel[:100], noise)


def test_small_images_are_enlarged_with_their_pixels_kept() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    panel = np.asarray(score_panel(Image.fromarray(noise), [("a", 0.5)]))
    assert panel.shape[1] == 9 * 28
    np.testing.assert_array_equal(panel[: 9 * 28 : 9, ::9, 0], noise)


@pytest.mark.parametrize("size", [(1, 500), (1, 30_000), (5, 3000), (100, 700), (30_000, 1), (1, 1)])
def test_odd_shapes_give_a_readable_panel_of_a_reasonable_size(size: tuple[int, int]) -> None:
    panel = score_panel(Image.new("RGB", size, "red"), [("a", 0.5)])
    assert panel.width >= 240
    assert panel.height <= max(size[1], 960) + 2 * (panel.width // 28 + 30)
    assert panel.getpixel(((panel.width - 1) // 2, 0)) == (255, 0, 0), "it stands in the middle"


@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "P", "CMYK"])
def test_any_mode(mode: str) -> None:
    assert score_panel(Image.new(mode, (300, 50)), [("a", 0.5)]).mode == "RGB"


def test_no_rows() -> None:
    assert score_panel(Image.new("RGB", SIZE), []).width == 400


def test_long_names_are_shortened() -> None:
    pen, letters = ImageDraw.Draw(Image.new("RGB", SIZE)), font(14)
    long = "a very long name of a class that has no place here"
    short = fitted(pen, long, 120, letters)
    assert short.endswith("…")
    assert long.startswith(short[:-1])
    assert pen.textlength(short, font=letters) <= 120
    assert pen.textlength(long[: len(short)] + "…", font=letters) > 120, "no shorter than needed"
    assert fitted(pen, "short", 120, letters) == "short"
    assert fitted(pen, "no place at all", 1, letters) == "…"


def test_a_long_name_does_not_cover_the_percentage() -> None:
    plain, long = drawn(("", 0.123)), drawn(("W" * 200, 0.123))
    right = 400 - 6 - ImageDraw.Draw(Image.new("RGB", SIZE)).textlength("12.3 %", font=font(14))
    np.testing.assert_array_equal(plain[:, int(right) :], long[:, int(right) :])
    assert (plain != long).any()


def test_names_in_any_script() -> None:
    assert (drawn(("Straße", 0.5)) != drawn(("", 0.5))).any()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (4, 4, 1), (5, 4, 2), (9, 4, 3)])
def test_sheet(count: int, columns: int, rows: int) -> None:
    images = [Image.new("RGB", (20 + i, 30), (i + 1, 0, 0)) for i in range(count)]
    page = sheet(images, gap=8)
    cell = 20 + count - 1
    assert page.size == (columns * (cell + 8) + 8, rows * 38 + 8)
    for i in range(count):
        left, top = 8 + i % 4 * (cell + 8), 8 + i // 4 * 38
        assert page.getpixel((left, top)) == (i + 1, 0, 0)
        assert page.getpixel((left - 1, top)) == (255, 255, 255)
        assert page.getpixel((left + 19 + i, top + 29)) == (i + 1, 0, 0)
        assert page.getpixel((left + 20 + i, top)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((28, 28), (224, 224)),
        ((100, 50), (200, 100)),
        ((240, 10), (240, 10)),
        ((480, 240), (240, 120)),
        ((9000, 3), (240, 1)),
        ((130, 90), (130, 90)),
    ],
)
def test_a_card_fits_its_image_into_a_square(size: tuple[int, int], shown: tuple[int, int]) -> None:
    page = np.asarray(card(Image.new("RGB", size, (255, 0, 0)), [("left", "right", (0, 0, 0)), ("x", "", (0, 0, 0))]))
    red = (page == (255, 0, 0)).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) == shown
    assert page.shape[1] == 240
    assert page.shape[0] == 240 + 2 * round(max(13, 240 // 17) * 1.5)
    assert (page[240:] != 255).any(), "the captions"


def test_a_cards_captions_do_not_cross() -> None:
    image = Image.new("L", (30, 30))
    short, long = (np.asarray(card(image, [(text, "99.9 %", (0, 0, 0))])) for text in ("", "W" * 99))
    right = 240 - ImageDraw.Draw(Image.new("RGB", (9, 9))).textlength("99.9 %", font=font(14))
    np.testing.assert_array_equal(short[:, int(right) :], long[:, int(right) :])
    assert (short != long).any()


# objects

GREY = Image.new("RGB", (600, 400), (90, 90, 90))
ONE = np.array([[100.0, 120.0, 200.0, 180.0]])


def marked(*arguments: Any, image: Image.Image = GREY, **more: Any) -> NDArray[np.uint8]:
    return np.asarray(draw_objects(image, *arguments, **more))


def test_a_box_is_drawn_inside_its_edges() -> None:
    page = marked(ONE, [""], [3])
    found = (page[:400] == colour_of(3)).all(-1)
    rows, columns = np.flatnonzero(found[:, 110:190].any(1)), np.flatnonzero(found[140:160].any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (120, 179, 100, 199)
    assert (page[130:170, 110:190] == 90).all(), "the object itself stays visible"


def test_a_mask_is_tinted_and_outlined_where_it_is() -> None:
    bits = np.zeros((60, 100), bool)
    bits[10:50, 20:70] = True
    page = marked(ONE, ["x"], [0], cropped_masks=[CroppedMask(100, 120, bits)])
    outline = (page[120:180, 100:200] == colour_of(0)).all(-1)
    assert outline[10, 20:70].all()
    assert outline[10:50, 69].all()
    assert not (outline & ~bits).any(), "nothing beyond the mask, and no box"
    inner = page[150, 140]
    np.testing.assert_allclose(inner, 0.6 * 90 + 0.4 * np.array(colour_of(0)), atol=1)  # whole numbers


def test_a_small_image_is_enlarged_with_its_mask() -> None:
    bits = np.ones((3, 4), bool)
    page = marked(
        np.array([[2, 5, 6, 8]]), ["x"], [0], cropped_masks=[CroppedMask(2, 5, bits)], image=Image.new("L", (60, 40))
    )
    assert page.shape[1] == 480
    rows, columns = np.nonzero((page[:320] == colour_of(0)).all(-1) & (np.arange(480) < 100))
    assert (rows.max() + 1, columns.min()) == (8 * 8, 8 * 2)


def test_objects_without_numbers_differ_in_colour_from_their_neighbours() -> None:
    boxes = np.array([[x, y, x + 40, y + 40] for y in range(0, 200, 40) for x in range(0, 600, 40)], np.float64)
    cropped_masks = [CroppedMask(int(x), int(y), np.ones((40, 40), bool)) for x, y, *_ in boxes]
    page = marked(boxes, ["n"] * 75, None, cropped_masks=cropped_masks)
    centres = page[20:200:40, 20:600:40].astype(int)
    assert (np.abs(np.diff(centres, axis=0)).sum(-1) > 0).all()
    assert (np.abs(np.diff(centres, axis=1)).sum(-1) > 0).all()


@pytest.mark.parametrize(("count", "labels"), [(25, True), (26, False)])
def test_many_objects_are_counted_and_not_labelled(count: int, labels: bool) -> None:
    boxes = np.array([[x, 100, x + 8, 108] for x in range(0, count * 20, 20)], np.float64)
    page, plain = marked(boxes, ["W"] * count, [0] * count), marked(boxes, [""] * count, [0] * count)
    assert bool((page[:98] != plain[:98]).any()) == labels
    assert (page[400:] != plain[400:]).any(), "the legend"


def test_labels_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        corner = rng.uniform(0, 300, (25, 2)) * (1.8, 1)
        boxes, taken = np.hstack([corner, corner + rng.uniform(10, 120, (25, 2))]), np.zeros((400, 600), int)
        page = Image.new("RGB", (600, 400))
        for place in write_labels(page, boxes, ["some name 0.99"] * 25, [(255, 255, 255)] * 25):
            assert min(place) >= 0
            assert place[2] <= 600
            assert place[3] <= 400
            taken[int(place[1]) : int(place[3]), int(place[0]) : int(place[2])] += 1
        assert taken.max() == 1


def test_the_legend_names_the_most_frequent_and_counts_the_rest() -> None:
    entries: list[tuple[str, tuple[int, int, int] | None]] = [(f"class {i}  1", (0, 0, 0)) for i in range(60)]
    rows = in_rows(entries, 600, 13)
    assert len(rows) == 4
    assert rows[-1][-1] == (f"and {60 - sum(map(len, rows)) + 1} more", None)
    pen, letters = ImageDraw.Draw(GREY), font(13)
    for row in rows:
        assert sum(pen.textlength(text, letters) + 1.2 * 13 * (1 + bool(colour)) for text, colour in row) <= 600 + 13
    assert in_rows(entries[:2], 600, 13) == [entries[:2]]


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (2000, 3), (60, 40)])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_any_size_and_number(size: tuple[int, int], count: int) -> None:
    box = np.tile(np.array([[0, 0, *size]], np.float64), (count, 1))
    page = draw_objects(Image.new("L", size), box, ["a long name of a class"] * count, range(count), [0.5] * count)
    assert page.width == size[0] * max(1, -(-480 // max(size)))
    assert page.height > size[1]


def test_colours_of_classes_differ() -> None:
    assert len({colour_of(i) for i in range(21)}) == 21


# label maps

NAMES = ("background", "leaf", "stem")
COLOURED = Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 600, 3), dtype=np.uint8))


def test_each_px_is_tinted_by_its_class_and_outlined() -> None:
    labels = np.full((400, 600), 1, np.uint8)
    labels[100:200, 100:300] = 2
    page = np.asarray(draw_labels(COLOURED, labels, NAMES))[:400].astype(int)
    grey = np.asarray(COLOURED.convert("L")).astype(int)[..., None]
    for rows, columns, label in ((slice(110, 190), slice(110, 290), 2), (slice(210, 390), slice(5, 595), 1)):
        expected = (grey[rows, columns] + np.array(label_colour(label))) / 2
        np.testing.assert_allclose(page[rows, columns], expected, atol=0.51)  # whole numbers
    for row, column, label in ((100, 150, 2), (99, 150, 1), (150, 299, 2), (150, 300, 1), (199, 150, 2), (200, 150, 1)):
        assert tuple(page[row, column]) == label_colour(label)


@pytest.mark.parametrize("name", ["background", "Background", "_background_", "BG", "unlabelled", "unlabeled"])
def test_what_is_no_class_keeps_its_own_colour(name: str) -> None:
    labels = np.zeros((400, 600), np.uint8)
    labels[50:100, 50:100], labels[200:300, 200:300] = 255, 1
    page = np.asarray(draw_labels(COLOURED, labels, (name, "leaf")))
    kept = labels != 1
    np.testing.assert_array_equal(page[:400][kept], np.asarray(COLOURED)[kept])
    swatches = (page[400:] == label_colour(0)).all(-1).sum(), (page[400:] == label_colour(1)).all(-1).sum()
    assert swatches[0] == 0
    assert swatches[1] > 50


def test_the_legend_is_of_the_classes_that_are_there_the_largest_first() -> None:
    labels = np.full((400, 600), 2, np.uint8)
    labels[:100] = 1
    page = np.asarray(draw_labels(COLOURED, labels, NAMES))[400:]
    first = [np.flatnonzero((page == label_colour(i)).all(-1).any(0)) for i in (2, 1)]
    assert first[0][0] < first[1][0]
    other = np.asarray(draw_labels(COLOURED, labels, NAMES, [0, 0.3, 0.7]))[400:]
    assert (page != other).any(), "shares that are given"
    same = np.asarray(draw_labels(COLOURED, labels, NAMES, [0, 0.25, 0.75]))[400:]
    np.testing.assert_array_equal(page, same)


def test_shares_are_of_what_has_a_class() -> None:
    labels = np.full((400, 600), 255, np.uint8)
    labels[:100, :300], labels[:100, 300:] = 1, 2
    half = np.asarray(draw_labels(COLOURED, labels, NAMES, [0, 0.5, 0.5]))
    np.testing.assert_array_equal(np.asarray(draw_labels(COLOURED, labels, NAMES)), half)


def test_a_image_is_drawn_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    whole = np.asarray(draw_labels(COLOURED, labels, NAMES))
    counts = count_labels(labels)
    for block in (1, 6000, 77_000):
        monkeypatch.setattr("fishnet.prediction.drawing.labels._BLOCK", block)
        np.testing.assert_array_equal(np.asarray(draw_labels(COLOURED, labels, NAMES)), whole)
        np.testing.assert_array_equal(count_labels(labels), counts)
    assert counts.tolist() == np.bincount(labels.ravel(), minlength=256).tolist()


def test_a_large_image_is_drawn_in_little_memory() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (30, 40), dtype=np.uint8).repeat(100, 0).repeat(100, 1)
    image = Image.new("RGB", (4000, 3000), "red")
    tracemalloc.start()
    draw_labels(image, labels, NAMES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # of a block of 2 million px some 70 MB; the image in full, as floats, would be 144 MB
    assert peak < 110e6


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (2000, 3), (60, 40)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_label_maps_of_any_size_and_mode(size: tuple[int, int], mode: str) -> None:
    labels = (np.arange(size[0] * size[1]).reshape(size[::-1]) % 3).astype(np.uint8)
    page = draw_labels(Image.new(mode, size), labels, ("a long name of a class", "b", "c"))
    assert page.width == size[0] * max(1, -(-480 // max(size)))
    assert page.height > size[1]
    assert page.mode == "RGB"
    assert draw_labels(Image.new(mode, size), np.full_like(labels, 255), NAMES).width == page.width


def test_a_small_label_map_is_enlarged_with_its_image() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:10, 20:40] = 1
    page = np.asarray(draw_labels(Image.new("RGB", (60, 40)), labels, NAMES))[:320]
    rows, columns = np.nonzero((page != 0).any(-1))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (40, 80, 160, 320)


def test_labels_of_another_size() -> None:
    with pytest.raises(InputError, match="labels of 60x40 px cannot be drawn on an image of 40x60 px"):
        draw_labels(Image.new("L", (40, 60)), np.zeros((40, 60), np.uint8), NAMES)


def test_colours_of_label_maps_differ() -> None:
    colours = [label_colour(i) for i in range(255)]
    assert colours[:7] == [colour_of(i) for i in range(7)]
    assert len(set(colours)) == 255
    assert label_colour(255) == colours[0]
    first = np.array(colours[:20])
    apart = np.abs(first[:, None] - first).max(2) + 999 * np.eye(20)
    assert apart.min() > 30, "the first twenty are not to be mistaken"
