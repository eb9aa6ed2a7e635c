"""Data of other formats becomes COCO; the same objects, whole or not at all."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.cli import main
from fishnet.data.convert import FORMATS, convert
from fishnet.data.detection.open import open_detection
from fishnet.errors import InputError
from tests.detection_makers import KINDS, Scene, scenes

needs_datumaro = pytest.mark.skipif(importlib.util.find_spec("datumaro") is None, reason="no datumaro (extra convert)")


def boxes(shown: Scene) -> list[tuple[str, list[float]]]:
    return [(KINDS[label], box) for label, box in zip(shown.labels.tolist(), shown.boxes.tolist(), strict=True)]


def cvat(root: Path, shown: list[Scene]) -> None:
    """CVAT for images 1.1: leaves are boxes, the others polygons; and a point."""
    rows = ["<annotations><version>1.1</version><meta><task><labels>"]
    rows += [f"<label><name>{kind}</name><attributes></attributes></label>" for kind in KINDS]
    rows.append("</labels></task></meta>")
    for i, one in enumerate(shown):
        rows.append(f'<image id="{i}" name="{i:03d}.png" width="96" height="80">')
        for n, (kind, (x1, y1, x2, y2)) in enumerate(boxes(one)):
            ring = np.array(one.polygons(n)[0]).reshape(-1, 2).tolist()
            points = ";".join(f"{x},{y}" for x, y in ring)
            rows.append(
                f'<box label="{kind}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
                if kind == "leaf"
                else f'<polygon label="{kind}" occluded="0" points="{points}" z_order="0"></polygon>'
            )
        rows += ['<points label="leaf" occluded="0" points="1,1" z_order="0"></points>', "</image>"]
    (root / "annotations.xml").write_text("\n".join([*rows, "</annotations>"]))
    images(root / "images", shown)


def kitti(root: Path, shown: list[Scene]) -> None:
    images(root / "training" / "image_2", shown)
    (root / "training" / "label_2").mkdir()
    for i, one in enumerate(shown):
        rows = [f"{kind} 0.00 0 0.0 {' '.join(map(str, box))} 0 0 0 0 0 0 0" for kind, box in boxes(one)]
        (root / "training" / "label_2" / f"{i:03d}.txt").write_text("\n".join(rows) + "\n")


def datumaro(root: Path, shown: list[Scene]) -> None:
    images(root / "images" / "train", shown)
    items = [
        {
            "id": f"{i:03d}",
            "annotations": [
                {"id": n, "type": "bbox", "attributes": {}, "group": 0, "label_id": KINDS.index(kind), "z_order": 0,
                 "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for n, (kind, (x1, y1, x2, y2)) in enumerate(boxes(one))
            ],
            "attr": {},
            "image": {"path": f"{i:03d}.png", "size": [80, 96]},
        }
        for i, one in enumerate(shown)
    ]  # fmt: skip
    labels = [{"name": kind, "parent": "", "attributes": []} for kind in KINDS]
    categories = {"label": {"labels": labels, "attributes": []}}
    content = {"dm_format_version": "1.0", "media_type": 2, "infos": {}, "categories": categories, "items": items}
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(content))


def wider_face(root: Path, shown: list[Scene]) -> None:
    images(root / "WIDER_train" / "images" / "0--Berry", shown)
    rows: list[str] = []
    for i, one in enumerate(shown):
        rows += [f"0--Berry/{i:03d}.png", str(len(one.labels))]
        rows += [f"{x1:.0f} {y1:.0f} {x2 - x1:.0f} {y2 - y1:.0f} 0 0 0 0 0 0" for _, (x1, y1, x2, y2) in boxes(one)]
    (root / "wider_face_split").mkdir()
    (root / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text("\n".join(rows) + "\n")


def images(folder: Path, shown: list[Scene]) -> None:
    folder.mkdir(parents=True)
    for i, one in enumerate(shown):
        one.image.save(folder / f"{i:03d}.png")


MAKERS: dict[str, Callable[[Path, list[Scene]], None]] = {
    "cvat": cvat, "kitti": kitti, "datumaro": datumaro, "wider-face": wider_face,
}  # fmt: skip


def made(name: str, root: Path, count: int = 4) -> tuple[Path, list[Scene]]:
    root.mkdir()
    shown = scenes("train", count)
    MAKERS[name](root, shown)
    return root, shown


def test_every_format_has_a_maker() -> None:
    assert MAKERS.keys() == FORMATS.keys()


@needs_datumaro
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_objects(name: str, tmp_path: Path) -> None:
    source, shown = made(name, tmp_path / "source")
    done = convert(source, tmp_path / "coco", name)
    assert (done.images.total(), done.objects.total()) == (4, sum(len(one.labels) for one in shown))
    assert dict(done.ignored) == {"cvat": {"points": 4}, "wider-face": {"label": 4}}.get(name, {})
    (dataset,) = open_detection(str(tmp_path / "coco"), 3, val_fraction=0, seed=0, keep_splits=True).values()
    for i, one in enumerate(shown):
        objects = dataset.objects(i)
        assert np.allclose(sorted(objects.boxes.tolist()), sorted(one.boxes.tolist()), atol=0.6)
        names = sorted(dataset.classes.names[label] for label in objects.labels)
        assert name == "wider-face" or names == sorted(kind for kind, _ in boxes(one))
        assert np.array_equal(np.asarray(dataset.read(i)[0]), np.asarray(one.image))


@needs_datumaro
def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    source, _ = made("cvat", tmp_path / "source")
    (source / "images" / "003.png").unlink()
    with pytest.raises(InputError, match="003"):
        convert(source, tmp_path / "coco", "cvat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@needs_datumaro
def test_an_image_outside_is_not_copied(tmp_path: Path) -> None:
    source, _ = made("cvat", tmp_path / "source")
    (tmp_path / "secret.png").write_bytes((source / "images" / "000.png").read_bytes())
    xml = source / "annotations.xml"
    xml.write_text(xml.read_text().replace('name="001.png"', 'name="../../secret.png"'))
    with pytest.raises(InputError, match="secret"):
        convert(source, tmp_path / "coco", "cvat")
    assert not (tmp_path / "coco").exists()


@needs_datumaro
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, shown = made("cvat", tmp_path / "source")
    target = str(tmp_path / "coco")
    assert main(["data", "convert", str(source), target, "--from", "cvat"]) == 0
    out = capsys.readouterr().out
    assert f"all: 4 images, {sum(len(one.labels) for one in shown)} objects" in out
    assert "ignored: 4 points" in out
    assert main(["data", "convert", str(source), target, "--from", "cvat"]) == 2
    assert "already exists: name a new folder" in capsys.readouterr().err
    assert main(["data", "check", target, "--quiet"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "via"}, "choose from cvat, datumaro, kitti, wider-face"),
        ({"source": "nowhere"}, "no such file or folder"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    source = tmp_path / arguments.get("source", ".")
    with pytest.raises(InputError, match=words):
        convert(source, tmp_path / "coco", arguments.get("name", "cvat"))


@needs_datumaro
@pytest.mark.parametrize("text", ["<annotations>", "<annotations/>", "{", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_broken_files(text: str, tmp_path: Path) -> None:
    source, _ = made("cvat", tmp_path / "source")
    (source / "annotations.xml").write_text(text)
    with pytest.raises(InputError, match="Datumaro cannot read it as cvat"):
        convert(source, tmp_path / "coco", "cvat")
