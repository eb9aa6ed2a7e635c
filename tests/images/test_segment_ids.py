"""Maps of segment ids, and COCO's encoding of them as colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.errors import InputError
from fishnet.images.segment_ids import MAX_ID, dense_ids, ids_to_rgb, read_png, rgb_to_ids, run_starts, write_png


def test_the_encoding_is_cocos() -> None:
    ids = np.array([[0, 1, 255, 256, 65536, 3 + 256 * 5 + 65536 * 7, MAX_ID]], np.int32)
    expected = [[0, 0, 0], [1, 0, 0], [255, 0, 0], [0, 1, 0], [0, 0, 1], [3, 5, 7], [255, 255, 255]]
    assert ids_to_rgb(ids)[0].tolist() == expected
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32, np.uint8])
def test_a_png_round_trip(kind: type[np.integer], tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, min(MAX_ID, np.iinfo(kind).max) + 1, (31, 17)).astype(kind)
    write_png(tmp_path / "new" / "a.png", ids)
    found = read_png(tmp_path / "new" / "a.png")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, ids)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert (image.mode, image.size) == ("RGB", (17, 31))
    np.testing.assert_array_equal(read_png(tmp_path / "new" / "a.png", max_pixels=31 * 17), ids)


@pytest.mark.parametrize("wrong", [-1, MAX_ID + 1])
def test_ids_that_no_colour_encodes(wrong: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"segment ids from -?\d+ to \d+: must be from 0 to 16,777,215"):
        write_png(tmp_path / "a.png", np.array([[5, wrong]]))
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    with pytest.raises(InputError, match=r"a\.png: a PNG of mode L: .* encodes segment ids as colours, 8-bit RGB"):
        read_png(path)
    Image.new("RGB", (4, 4)).save(path, format="BMP")
    with pytest.raises(InputError, match=r"a\.png: "):
        read_png(path)
    write_png(path, np.random.default_rng(0).integers(0, 2**24, (32, 32)))
    with pytest.raises(InputError, match=r"a\.png: .*1,024|a\.png: .*1024|a\.png: .*px"):
        read_png(path, max_pixels=32)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.png: broken PNG"):
        read_png(path)
    with pytest.raises(InputError, match=r"none\.png"):
        read_png(tmp_path / "none.png")


def test_alpha_is_no_part_of_an_id(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 0, 0], [3, 0, 0, 255]]], np.uint8)).save(tmp_path / "a.png")
    assert read_png(tmp_path / "a.png").tolist() == [[513, 3]]


def test_numbers_follow_the_known_ids() -> None:
    ids = np.array([[0, 900, 7], [MAX_ID, 7, 0]], np.int32)
    assert dense_ids(ids, [MAX_ID, 7, 900]).tolist() == [[0, 3, 2], [1, 2, 0]]
    assert dense_ids(ids, [5, MAX_ID, 7, 900, 8]).max() == 4, "known ids need not occur"
    assert dense_ids(np.zeros((2, 2), np.int32), []).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], "the id 4 and 2 more ids have pixels but no segment"),
        ([4, 9], "the id 6 has pixels but no segment"),
        ([6, 9], "the id 4 has pixels"),
    ],
)
def test_ids_that_no_segment_has(known: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dense_ids(np.array([[0, 4, 6, 9]]), known)


def test_runs_end_with_their_row() -> None:
    starts, lengths = run_starts(np.array([[5, 5, 0], [0, 0, 0], [1, 2, 2]]))
    assert list(zip(starts.tolist(), lengths.tolist(), strict=True)) == [(0, 2), (2, 1), (3, 3), (6, 1), (7, 2)]
