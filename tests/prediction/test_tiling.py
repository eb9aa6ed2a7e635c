"""Tiles cover an image, and what is found in them is found once in the whole."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.prediction.tiling import Tile, merge, tiles

TABLE = Classes.of(["cell", "tree", "car"])
SIZE = (300, 400)
LATTICE = tiles(*SIZE, 100, 0.2)  # tiles begin at 0, 75, 150, 225, 300 across, at 0, 67, 133, 200 down
Box = tuple[float, float, float, float]


# tiles


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 100), (101, 100), (99, 350), (640, 479), (1000, 37)])
def test_tiles_cover_the_image_evenly(height: int, width: int, overlap: float) -> None:
    found = tiles(height, width, 100, overlap)
    seen = np.zeros((height, width), int)
    for top, left, bottom, right in found:
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        assert (bottom - top, right - left) == (min(100, height), min(100, width)), "all are of one size"
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1 or overlap > 0.5
    assert seen.min() >= 1
    for starts in (sorted({tile[0] for tile in found}), sorted({tile[1] for tile in found})):
        gaps = np.diff(starts)
        assert (gaps <= 100 * (1 - overlap) + 1e-9).all()
        assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_no_more_tiles_than_needed() -> None:
    assert tiles(100, 180, 100, 0.2) == [(0, 0, 100, 100), (0, 80, 100, 180)]
    assert tiles(80, 90, 100, 0.2) == [(0, 0, 80, 90)]
    assert len(tiles(2472, 2299, 400, 0.2)) == 8 * 7


@pytest.mark.parametrize(("size", "overlap"), [(0, 0.2), (-5, 0.2), (100, 0.95), (100, -0.1), (100, float("nan"))])
def test_bad_tiles(size: int, overlap: float) -> None:
    with pytest.raises(InputError, match=r"tiles must be 1 px or more, the overlap 0 to 0\.9"):
        tiles(10, 10, size, overlap)


# merging


def view(
    tile: Tile,
    boxes: list[Box],
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    *,
    masks: bool = False,
    noise: float = 0.0,
    least: float = 1.0,
) -> Detections:
    """What a model finds of objects in a tile: of each its part within, if that is some px across."""
    top, left, bottom, right = tile
    rng = np.random.default_rng(hash((*tile, len(boxes))) % 2**32)
    whole = np.array(boxes, np.float64).reshape(-1, 4)
    part = whole.clip((left, top, left, top), (right, bottom, right, bottom)) - (left, top, left, top)
    seen = np.flatnonzero(((part[:, 2:] - part[:, :2]) >= least).all(1))
    given = part[seen] + rng.uniform(-noise, noise, (len(seen), 4))
    given = given.clip(0, (right - left, bottom - top) * 2)
    cropped_masks = None
    if masks:
        cropped_masks = tuple(ellipse(tile, whole[i]) for i in seen)
    return Detections(
        given.astype(np.float32),
        np.array(labels or [0] * len(boxes), np.int64)[seen],
        np.array(scores or [0.9] * len(boxes), np.float32)[seen],
        TABLE,
        (bottom - top, right - left),
        cropped_masks,
    )


def ellipse(tile: Tile, box: NDArray[np.float64]) -> CroppedMask:
    """The part of an ellipse in a tile, in px of that."""
    top, left, bottom, right = tile
    x1, y1, x2, y2 = (int(v) for v in box)
    x1, x2, y1, y2 = max(x1, left), min(x2, right), max(y1, top), min(y2, bottom)
    y, x = np.mgrid[y1:y2, x1:x2] + 0.5
    across, down = (x - (box[0] + box[2]) / 2) / (box[2] - box[0]), (y - (box[1] + box[3]) / 2) / (box[3] - box[1])
    return CroppedMask(x1 - left, y1 - top, np.hypot(across, down) <= 0.5)


def merged(boxes: list[Box], *arguments: list[int] | list[float], **more: bool | float) -> Detections:
    """The objects, seen through all tiles."""
    return merge([(tile, view(tile, boxes, *arguments, **more)) for tile in LATTICE], SIZE)  # type: ignore[arg-type]


def same(found: Detections, boxes: list[Box], atol: float = 1e-4) -> None:
    """Those boxes and no others, in any order."""
    given, expected = np.array(sorted(found.boxes.tolist())), np.array(sorted(boxes))
    assert len(given) == len(expected)
    np.testing.assert_allclose(given, expected, atol=atol)


ONE: dict[str, Box] = {
    "within one tile": (10, 10, 60, 60),
    "within two tiles": (80, 20, 95, 40),
    "on a vertical seam": (90, 10, 110, 40),
    "on a horizontal seam": (20, 60, 50, 90),
    "at the crossing of four tiles, smaller than the overlap": (78, 70, 98, 90),
    "at a crossing, seen whole by none": (70, 60, 120, 110),
    "larger than the overlap across": (60, 10, 140, 50),
    "larger than the overlap down": (10, 50, 40, 115),
    "larger than a tile across": (20, 20, 380, 50),
    "larger than a tile in both directions": (30, 30, 360, 270),
    "the whole image": (0, 0, 400, 300),
    "at the image's edge": (0, 60, 20, 110),
    "thin": (90, 30, 300, 34),
    "a sliver in the next tile": (76, 10, 102, 50),
}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("box", ONE.values(), ids=ONE)
def test_an_object_is_found_once(box: Box, masks: bool) -> None:
    found = merged([box], masks=masks)
    same(found, [box])
    assert found.size == SIZE
    if masks:
        whole = ellipse((0, 0, *SIZE), np.array(box))
        expected = np.zeros(SIZE, bool)
        expected[whole.top : whole.top + whole.bits.shape[0], whole.left : whole.left + whole.bits.shape[1]] = (
            whole.bits
        )
        np.testing.assert_array_equal(found.masks[0], expected)


@pytest.mark.parametrize("box", ONE.values(), ids=ONE)
def test_an_object_is_found_once_by_boxes_that_are_not_exact(box: Box) -> None:
    # 1.5 px of noise at each edge, and each of up to four pieces may be the outermost
    same(merged([box], noise=1.5, least=4), [box], atol=1.6)


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("box", ONE.values(), ids=ONE)
def test_at_any_overlap(box: Box, overlap: float) -> None:
    parts = [(tile, view(tile, [box])) for tile in tiles(*SIZE, 100, overlap)]
    same(merge(parts, SIZE), [box])


@pytest.mark.parametrize(
    "boxes",
    [
        [(60, 10, 92, 40), (93, 10, 130, 40)],  # side by side, the seams between and through them
        [(60, 10, 140, 30), (60, 31, 140, 50)],  # one below the other, both larger than the overlap
        [(60, 10, 140, 34), (60, 26, 140, 50)],  # and overlapping
        [(78, 12, 98, 40), (86, 12, 106, 40)],  # IoU 0.43
        [(20, 20, 380, 50), (20, 52, 380, 80), (60, 55, 70, 75)],
        [(70, 60, 85, 72), (86, 60, 120, 110), (70, 73, 85, 110)],
    ],
)
@pytest.mark.parametrize("masks", [False, True])
def test_different_neighbours_on_a_seam_stay_apart(boxes: list[Box], masks: bool) -> None:
    same(merged(boxes, masks=masks), boxes)


def test_classes_are_merged_each_for_itself() -> None:
    box: Box = (60, 10, 140, 50)
    found = merged([box, box, (90, 100, 110, 120)], [0, 1, 2])
    same(found, [box, box, (90, 100, 110, 120)])
    assert sorted(found.names) == ["car", "cell", "tree"]


def detections(tile: Tile, boxes: list[Box], scores: list[float]) -> tuple[Tile, Detections]:
    top, left, bottom, right = tile
    inside = np.array(boxes, np.float32).reshape(-1, 4) - np.array([left, top, left, top], np.float32)
    labels = np.zeros(len(boxes), np.int64)
    return tile, Detections(inside, labels, np.array(scores, np.float32), TABLE, (bottom - top, right - left))


LEFT, RIGHT = (0, 0, 100, 100), (0, 80, 100, 180)


def test_the_whole_one_wins_over_a_part_of_better_score() -> None:
    parts = [detections(LEFT, [(85, 10, 100, 40)], [0.99]), detections(RIGHT, [(84, 11, 115, 40)], [0.4])]
    found = merge(parts, (100, 180))
    same(found, [(84, 11, 115, 40)])
    assert found.scores.tolist() == [np.float32(0.4)]


def test_a_large_piece_is_no_part_of_a_small_object() -> None:
    parts = [detections(LEFT, [(10, 10, 100, 90)], [0.6]), detections(RIGHT, [(85, 20, 98, 40)], [0.99])]
    same(merge(parts, (100, 180)), [(10, 10, 100, 90), (85, 20, 98, 40)])


def test_pieces_take_the_better_score_and_doubles_the_winners() -> None:
    parts = [
        detections(LEFT, [(60, 10, 100, 40), (83, 60, 95, 80)], [0.5, 0.7]),
        detections(RIGHT, [(80, 10, 120, 41), (83, 61, 96, 80)], [0.8, 0.6]),
    ]
    found = merge(parts, (100, 180))
    np.testing.assert_allclose(found.boxes, [(60, 10, 120, 41), (83, 60, 95, 80)], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.8, 0.7])


def test_pieces_that_disagree_stay() -> None:
    parts = [detections(LEFT, [(60, 10, 100, 40)], [0.5]), detections(RIGHT, [(80, 35, 120, 70)], [0.8])]
    assert len(merge(parts, (100, 180))) == 2


def test_what_one_tile_finds_twice_is_its_own_matter() -> None:
    boxes: list[Box] = [(10, 10, 40, 40), (11, 11, 41, 41), (85, 50, 97, 70), (84, 50, 97, 71)]
    parts = [detections(LEFT, boxes, [0.9, 0.8, 0.7, 0.6]), detections(RIGHT, [], [])]
    same(merge(parts, (100, 180)), boxes)


def test_an_object_that_only_one_tile_sees_stays_also_cut_off() -> None:
    found = merge([detections(LEFT, [(70, 10, 100, 40)], [0.5]), detections(RIGHT, [], [])], (100, 180))
    same(found, [(70, 10, 100, 40)])


@pytest.mark.parametrize("masks", [False, True])
def test_nothing_found(masks: bool) -> None:
    found = merged([], masks=masks)
    assert (len(found), found.boxes.shape, found.cropped_masks) == (0, (0, 4), () if masks else None)


def test_one_tile_changes_nothing() -> None:
    boxes: list[Box] = [(0, 0, 40, 40), (1, 1, 41, 41), (60, 60, 100, 100)]
    tile, alone = detections((0, 0, 100, 100), boxes, [0.9, 0.8, 0.7])
    found = merge([(tile, alone)], (100, 100))
    np.testing.assert_array_equal(found.boxes, alone.boxes)
    np.testing.assert_array_equal(found.scores, alone.scores)


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd(seed: int) -> None:
    """Objects of all sizes on a grid, two px apart: each is found once, and none is mixed with a neighbour."""
    rng = np.random.default_rng(seed)
    edges = [np.unique(np.concatenate([[0], rng.integers(5, side, 14), [side]])) for side in SIZE]
    cells = itertools.product(itertools.pairwise(edges[1].tolist()), itertools.pairwise(edges[0].tolist()))
    boxes: list[Box] = [(x1 + 1, y1 + 1, x2 - 1, y2 - 1) for (x1, x2), (y1, y2) in cells if min(x2 - x1, y2 - y1) > 5]
    assert len(boxes) > 60
    same(merged(boxes), boxes)


def test_thousands_of_objects() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:4000:50, 0:4000:50]
    corner = np.stack([x, y], -1).reshape(-1, 2) + rng.integers(0, 10, (6400, 2))
    boxes = [tuple(box) for box in np.hstack([corner, corner + rng.integers(15, 38, (6400, 2))]).tolist()]
    parts = [(tile, view(tile, boxes, masks=False)) for tile in tiles(4000, 4000, 400, 0.2)]
    same(merge(parts, (4000, 4000)), boxes, atol=1e-3)
