"""Mask files as they are, and from what they hold to labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.maskfiles import Mask, open_mask, pack_rgb
from fishnet.data.segmentation.masks import BINARY, MaskDecoder
from fishnet.data.segmentation.names import MAX_ID, Legend
from fishnet.errors import InputError
from tests.segmentation_makers import COLOURS, save_mask

IDS = np.array([[0, 1, 2, 255], [7, 7, 200, 0]])
PAINTED = np.array([[0, 1, 2], [2, 1, 0]])
PALETTE = np.asarray(COLOURS, np.uint8)


@pytest.mark.parametrize("form", ["index", "palette", "deep", "array"])
@pytest.mark.parametrize("extension", ["png", "tif", "tiff"])
def test_numbers(form: str, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{'npy' if form == 'array' else extension}"
    save_mask(path, IDS, form)
    assert np.array_equal(open_mask(path).read(), IDS)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (Image.fromarray(IDS == 7), np.where(IDS == 7, 255, 0)),
        (Image.fromarray(IDS.astype(np.int32) * 70_000), IDS * 70_000),
        (Image.fromarray(IDS.astype(np.uint16).astype(">u2")), IDS),
        (Image.fromarray(np.stack([IDS, 0 * IDS], -1).astype(np.uint8)), IDS),
        (Image.fromarray(np.stack([IDS] * 3, -1).astype(np.uint8)), IDS),
    ],
    ids=["one bit", "32 bits", "16 bits, most significant first", "with opacity", "grey in three channels"],
)
def test_other_numbers(image: Image.Image, shown: NDArray[Any], tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    image.save(path)
    assert np.array_equal(open_mask(path).read(), shown)


@pytest.mark.parametrize("kind", [bool, np.uint64, ">i4", np.int8])
def test_arrays(kind: Any, tmp_path: Path) -> None:
    values = (IDS == 7) if kind is bool else np.minimum(IDS, 100).astype(kind)
    np.save(tmp_path / "x.npy", values)
    assert np.array_equal(open_mask(tmp_path / "x.npy").read(), values * 255 if kind is bool else values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(PALETTE[PAINTED])
    if mode == "P":
        save_mask(tmp_path / "x.png", PAINTED, "palette")
    else:
        image.convert(mode).save(tmp_path / "x.png")
    mask = open_mask(tmp_path / "x.png", colours=True, palette=True)
    assert mask.colours
    assert np.array_equal(mask.read(), pack_rgb(PALETTE[PAINTED]))
    if mode != "P":
        with pytest.raises(InputError, match=r"x\.png: holds colours without names: name them in a classes"):
            open_mask(tmp_path / "x.png").read()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"no image"), "not an image that can be read"),
        (lambda path: Image.new("L", (8, 8)).save(path, "JPEG"), "JPEG changes pixels"),
        (lambda path: Image.new("F", (8, 8)).save(path, "TIFF"), r"holds F: a mask is one"),
        (lambda path: Image.new("CMYK", (8, 8)).save(path, "TIFF"), r"holds CMYK: a mask is one"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01"), "broken array"),
    ],
)
def test_faults(make: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(InputError, match=words) as error:
        open_mask(path)
    assert "\n" not in str(error.value)
    assert "x.png" in str(error.value)


def test_a_mask_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_mask(path, np.random.default_rng(0).integers(0, 9, (64, 64)), "index")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"x\.png: not a mask that can be read"):
        open_mask(path)


def of_array(values: NDArray[Any], colours: bool = False) -> Mask:
    return Mask(values.shape, colours, lambda top, bottom: values[top:bottom])


LEGEND = Legend(
    "classes.txt", Classes(("a", "b", "c", "d"), (0, 7, 300, MAX_ID)), (0, 7, 300, MAX_ID), ignored=(9, 255)
)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64, np.uint32])
def test_labels_of_numbers(kind: type[np.integer[Any]]) -> None:
    of = {0: 2, 7: 255, 300: 0, MAX_ID: 1, 9: 255, 255: 255, 40: 255}
    decoder = MaskDecoder(LEGEND, [2, 255, 0, 1], ignore=[40])
    random = np.random.default_rng(0)
    known = [value for value in of if value <= np.iinfo(kind).max]
    values = random.choice(known, (50, 60)).astype(kind)
    labels, unnamed = decoder.labels(of_array(values))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[of[value] for value in row] for row in values.tolist()]
    assert unnamed == {}
    assert labels.flags.writeable
    values[0, :3] = np.iinfo(kind).max if kind is not np.uint8 else 254
    values[1, :5] = 11
    labels, unnamed = decoder.labels(of_array(values))
    assert unnamed == {int(values[0, 0]): 3, 11: 5}
    assert (labels[0, :3] == 255).all()


def test_negative_numbers_are_ignored() -> None:
    decoder = MaskDecoder(LEGEND, [0, 1, 2, 3])
    labels, unnamed = decoder.labels(of_array(np.array([[-1, -300, 0, 7]], np.int32)))
    assert (labels.tolist(), unnamed) == ([[255, 255, 0, 1]], {})


def test_a_named_255_is_no_longer_ignored() -> None:
    legend = Legend("", Classes(("no", "yes"), BINARY), BINARY)
    assert MaskDecoder(legend, [0, 1]).labels(of_array(np.array([[255, 0]], np.uint8)))[0].tolist() == [[1, 0]]


def test_labels_of_colours(tmp_path: Path) -> None:
    colours = tuple(r << 16 | g << 8 | b for r, g, b in COLOURS)
    legend = Legend("", Classes.of("abc"), (0, 1, 2), colours, ignored_colours=(0xFFFFFF,), has_ids=False)
    decoder = MaskDecoder(legend, [1, 0, 255])
    save_mask(tmp_path / "x.png", PAINTED, "colour")
    mask = decoder.open(tmp_path / "x.png")
    values = mask.read()
    assert mask.colours
    assert decoder.labels(mask)[0].tolist() == [[1, 0, 255], [255, 0, 1]]
    values[0, :2] = (0xFFFFFF, 0x000001)
    labels, unnamed = decoder.labels(of_array(values, colours=True))
    assert labels.tolist() == [[255, 255, 255], [255, 0, 1]]
    assert unnamed == {1: 1}
