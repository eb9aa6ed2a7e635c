"""The files of panoptic segments: COCO's format, complete or partial."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.cli.panoptic_files import PanopticFiles
from fishnet.cli.writers import ImageIds
from fishnet.errors import WorkError
from fishnet.images.segment_ids import read_png
from fishnet.prediction.results import Panoptic

CONFIG = PanopticConfig.of(Classes(("cat", "dog"), (17, 3)), Classes(("sky",), (90,)))
FIRST = Panoptic.from_ids(np.array([[1, 1, 300, 0]]), {1: 1, 300: 2}, CONFIG, {1: 0.75})
EMPTY = Panoptic.from_ids(np.zeros((2, 3), np.int32), {}, CONFIG)


def read(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "panoptic.json").read_text())
    return values


def test_cocos_format(tmp_path: Path) -> None:
    with PanopticFiles(tmp_path, ["x/a.jpg", "b.png"], CONFIG) as writer:
        writer.add("x/a.jpg", FIRST)
        writer.add("b.png", EMPTY)
        assert not (tmp_path / "panoptic.json").exists(), "the file appears at the end"
    values = read(tmp_path)
    assert values["categories"] == [
        {"id": 17, "name": "cat", "isthing": 1},
        {"id": 3, "name": "dog", "isthing": 1},
        {"id": 90, "name": "sky", "isthing": 0},
    ]
    assert values["images"] == [
        {"id": 1, "file_name": "x/a.jpg", "width": 4, "height": 1},
        {"id": 2, "file_name": "b.png", "width": 3, "height": 2},
    ]
    assert [(one["image_id"], one["file_name"]) for one in values["annotations"]] == [(1, "a.png"), (2, "b.png")]
    assert values["annotations"][0]["segments_info"] == FIRST.to_dict()["segments_info"]
    assert values["annotations"][1]["segments_info"] == []
    for annotation, result in zip(values["annotations"], (FIRST, EMPTY), strict=True):
        ids = read_png(tmp_path / "panoptic" / annotation["file_name"])
        np.testing.assert_array_equal(ids, result.ids)


def test_no_image(tmp_path: Path) -> None:
    with PanopticFiles(tmp_path / "new", [], CONFIG):
        pass
    assert (read(tmp_path / "new")["annotations"], read(tmp_path / "new")["images"]) == ([], [])


def test_every_result_has_its_file(tmp_path: Path) -> None:
    """Of two images of one name, of frames, and beside an image to predict, which stays as it is."""
    photo = tmp_path / "panoptic" / "a.png"
    photo.parent.mkdir()
    Image.new("RGB", (5, 5)).save(photo)
    sources = [str(photo), "x/a.jpg", "clip.mp4#12"]
    with PanopticFiles(tmp_path, sources, CONFIG) as writer:
        for source in sources:
            writer.add(source, FIRST)
    names = [one["file_name"] for one in read(tmp_path)["annotations"]]
    assert names == ["a-2.png", "a-3.png", "clip-12.png"]
    with Image.open(photo) as image:
        assert image.size == (5, 5)


def test_given_ids(tmp_path: Path) -> None:
    known = tmp_path / "annotations.json"
    known.write_text(json.dumps({"images": [{"id": 139, "file_name": "a.jpg"}]}))
    with PanopticFiles(tmp_path, ["x/a.jpg"], CONFIG, ImageIds(known)) as writer:
        writer.add("x/a.jpg", FIRST)
    values = read(tmp_path)
    assert values["images"] == [{"id": 139, "file_name": "a.jpg", "width": 4, "height": 1}]
    assert values["annotations"][0]["image_id"] == 139


def interrupted(folder: Path) -> None:
    """The work ends after one image."""
    with PanopticFiles(folder, ["a.jpg"], CONFIG) as writer:
        writer.add("a.jpg", FIRST)
        raise WorkError("the disk is full")


def test_an_exception_leaves_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(WorkError):
        interrupted(tmp_path)
    assert not (tmp_path / "panoptic.json").exists()
    assert '"image_id": 1' in (tmp_path / "panoptic.json.partial").read_text()
    assert (tmp_path / "panoptic" / "a.png").is_file()
