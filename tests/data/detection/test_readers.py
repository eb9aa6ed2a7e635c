"""What is particular to labelme, Supervisely, box tables, YOLO without data.yaml, and a folder per image."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.collector import collecting
from fishnet.data.detection.files import first_entries
from fishnet.data.detection.labelme import LabelmeDetection
from fishnet.data.detection.open import open_detection
from fishnet.data.segmentation.open import open_segmentation
from fishnet.errors import InputError
from tests.detection_makers import (
    bitmap_text,
    box_table,
    darknet_folder,
    labelme_folder,
    labelme_json,
    object_files,
    open_images_folder,
    scene,
    supervisely_folder,
    supervisely_json,
)  # fmt: skip

SIZE = (40, 30)


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_detection(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


def image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def shape(label: str, points: Sequence[Sequence[float]], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(root: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> Path:
    """One image and its labelme file."""
    image(root / f"{name}.png")
    content = {"shapes": list(shapes), "imagePath": f"{name}.png", "imageData": None, **more}
    (root / f"{name}.json").write_text(json.dumps(content))
    return root


SQUARE = [[2, 3], [12, 3], [12, 13], [2, 13]]


class TestLabelme:
    def test_shapes(self, tmp_path: Path) -> None:
        bits = np.zeros((4, 6), np.uint8)
        bits[1:3, 2:6] = 1
        data = labelme(
            tmp_path,
            shape("square", SQUARE),
            shape("box", [[30, 20], [20, 5]], "rectangle"),
            shape("disc", [[20, 15], [20, 20]], "circle"),
            shape("bits", [[10, 20], [15, 23]], "mask", mask=bitmap_text(bits, packed=False)),
            shape("turned", SQUARE, "rotation"),
            shape("old", SQUARE, None),
        )
        dataset = opened(data, masks=True)["all"]
        objects = dataset.objects(0)
        names = [dataset.classes.names[label] for label in objects.labels]
        assert names == ["square", "box", "disc", "bits", "turned", "old"]
        assert objects.boxes.tolist()[:4] == [[2, 3, 12, 13], [20, 5, 30, 20], [15, 10, 25, 20], [12, 21, 16, 23]]
        areas = [100, 150, np.pi * 25, 8, 100, 100]
        assert np.allclose(objects.areas, areas, rtol=0.05)
        assert np.allclose(objects.masks().sum((1, 2)), areas, rtol=0.1)

    def test_shapes_of_one_group_are_one_object(self, tmp_path: Path) -> None:
        far = [[30, 20], [35, 20], [35, 25]]
        data = labelme(
            tmp_path, shape("car", SQUARE, group_id=1), shape("car", far, group_id=1), shape("bus", far, group_id=1)
        )
        objects = opened(data, masks=True)["all"].objects(0)
        assert objects.boxes.tolist() == [[2, 3, 35, 25], [30, 20, 35, 25]]
        assert objects.masks().sum((1, 2)).tolist()[0] == pytest.approx(100 + 12, abs=8)

    def test_points_and_lines_are_counted(self, tmp_path: Path) -> None:
        data = labelme(
            tmp_path,
            shape("a", SQUARE),
            shape("a", [[1, 1]], "point"),
            shape("a", [[1, 1], [2, 2]], "line"),
            shape("a", [[1, 1], [2, 2], [3, 1]], "linestrip"),
            shape("__ignore__", SQUARE),
        )
        dataset = opened(data)["all"]
        assert len(dataset.objects(0)) == 1
        (note,) = dataset.notes
        assert (note.code, note.count) == ("shape-ignored", 4)
        assert "2 lines, 1 points, 1 __ignore__ shapes: not read as objects" in note.message

    def test_an_image_elsewhere(self, tmp_path: Path) -> None:
        image(tmp_path / "images" / "a.png")
        (tmp_path / "labels").mkdir()
        content = {"shapes": [shape("x", SQUARE)], "imagePath": "..\\images\\a.png", "imageData": None}
        (tmp_path / "labels" / "a.json").write_text(json.dumps(content))
        assert opened(tmp_path)["all"].source(0) == str(tmp_path / "images" / "a.png")
        content["imagePath"] = "C:\\Users\\me\\job 7\\images\\a.png"
        (tmp_path / "labels" / "a.json").write_text(json.dumps(content))
        assert opened(tmp_path)["all"].source(0) == str(tmp_path / "images" / "a.png")

    @pytest.mark.parametrize("named", ["../../../etc/passwd", "/etc/passwd", "../outside.png", "x\0.png"])
    def test_an_image_outside_is_never_read(self, named: str, tmp_path: Path) -> None:
        image(tmp_path / "outside.png")
        root = tmp_path / "data"
        root.mkdir()
        (root / "a.json").write_text(json.dumps({"shapes": [shape("x", SQUARE)], "imagePath": named}))
        with pytest.raises(InputError, match=r"a\.json: imagePath: no image .* and the file has no imageData"):
            opened(root)

    def test_the_image_in_the_file(self, tmp_path: Path) -> None:
        truth = scene(3)
        buffer = io.BytesIO()
        truth.image.save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode()
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text(json.dumps(labelme_json(truth, "gone.png", imageData=text)))
        dataset = opened(tmp_path)["all"]
        assert np.array_equal(np.asarray(dataset.read(0)[0]), np.asarray(truth.image))
        assert dataset.size(1) == (80, 96)
        image(tmp_path / "gone.png", (96, 80))  # the file beside goes first
        with pytest.raises(InputError, match=r"b\.json: its image .*gone.png belongs to .*a\.json too"):
            opened(tmp_path)
        (tmp_path / "b.json").unlink()
        assert np.asarray(opened(tmp_path)["all"].read(0)[0])[0, 0].tolist() == [255, 0, 0]

    def test_images_without_a_file_are_left_out(self, tmp_path: Path) -> None:
        labelme(tmp_path, shape("x", SQUARE))
        image(tmp_path / "b.png")
        assert opened(tmp_path)["all"].left_out == (str(tmp_path / "b.png"),)

    def test_splits_in_labels_and_images(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            image(tmp_path / "images" / split / f"{split}.png")
            (tmp_path / "labels" / split).mkdir(parents=True)
            content = {"shapes": [shape("x", SQUARE)], "imagePath": f"../../images/{split}/{split}.png"}
            (tmp_path / "labels" / split / f"{split}.json").write_text(json.dumps(content))
        assert {split: len(dataset) for split, dataset in opened(tmp_path).items()} == {"train": 1, "val": 1}
        labelme(tmp_path / "more", shape("x", SQUARE), name="c")
        with pytest.raises(InputError, match=r"c\.json: is not in a train, val or test folder, but other labelme"):
            opened(tmp_path)

    def test_rectangles_alone_are_no_masks(self, tmp_path: Path) -> None:
        data = labelme(tmp_path, shape("x", [[1, 1], [5, 5]], "rectangle"))
        assert len(opened(data)["all"].objects(0)) == 1
        with pytest.raises(InputError, match=r"has boxes only .*: use train detect"):
            opened(data, masks=True)

    def test_label_maps(self, tmp_path: Path) -> None:
        inner = [[4, 5], [8, 5], [8, 9], [4, 9]]
        data = labelme(
            tmp_path,
            shape("car", SQUARE),
            shape("wheel", inner),
            shape("__ignore__", [[20, 20], [30, 20], [30, 25], [20, 25]]),
        )
        dataset = open_segmentation(str(data), 3, val_fraction=0, seed=0, keep_splits=True)["all"]
        labels = dataset.label_map(0)
        assert dataset.classes.names == ("background", "car", "wheel")
        assert (labels[0, 0], labels[4, 3], labels[7, 6], labels[22, 25]) == (0, 1, 2, 255)
        assert dataset.read(0)[1].shape == (30, 40)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (shape("x", [[1, 1], [2, 2]]), r"a\.json: shapes\[0\]: 2 points, but 3 or more are needed"),
            (shape("x", [[1, 1], [2, "b"], [3, 4]]), r"shapes\[0\]: points must be a list of corners"),
            (shape("x", [[1, 1], [2, 1e9], [3, 4]]), r"a point lies farther than 1,000,000 px away"),
            (shape("x", [[1, 1], [2, 10**30], [3, 4]]), r"a point lies farther than"),
            (shape("x", SQUARE, "ellipse"), r"shape_type 'ellipse' is not supported"),
            (shape("x", SQUARE, {}), r"shape_type '{}' is not supported"),  # type: ignore[arg-type]
            (shape("", SQUARE), r"shapes\[0\]: has no label"),
            (shape("x", SQUARE, group_id=[1]), r"group_id must be an integer or a text"),
            (shape("x", [[0, 0], [3, 3]], "mask", mask="!"), r"the bitmap is not base64 text"),
            (
                shape("x", [[0, 0], [3, 3]], "mask", mask=bitmap_text(np.ones((9, 9), np.uint8), False)),
                r"9x9 px, where",
            ),
            ("x", r"shapes\[0\]: is not a shape with label and points"),
        ],
    )
    def test_bad_shapes(self, value: Any, words: str, tmp_path: Path) -> None:
        data = labelme(tmp_path, value, shape("y", SQUARE))
        with pytest.raises(InputError, match=words):
            opened(data)
        with collecting() as collector:
            assert len(opened(data)["all"].objects(0)) == 1
        assert len(collector.findings) == 1

    def test_a_size_that_is_not_the_images(self, tmp_path: Path) -> None:
        data = labelme(tmp_path, shape("x", SQUARE), imageHeight=3_000_000, imageWidth=4_000_000)
        for masks in (False, True):
            with pytest.raises(InputError, match="is 40x30 px, but annotated as 4000000x3000000"):
                opened(data, masks=masks)["all"].read(0)
        with pytest.raises(InputError, match="annotated as 4000000x3000000"):
            open_segmentation(str(data), 3, val_fraction=0, seed=0, keep_splits=True)["all"].label_map(0)

    def test_classes_of_others_are_not_labelme(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("{}")
        assert not isinstance(next(iter(self._opened_or_none(tmp_path)), None), LabelmeDetection)

    @staticmethod
    def _opened_or_none(data: Path) -> list[Any]:
        try:
            return list(opened(data).values())
        except InputError:
            return []


TWO_CORNERS = {"geometryType": "rectangle", "points": {"exterior": [[1, 1], [2, 2]]}}


def bitmap(data: str) -> dict[str, Any]:
    return {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [0, 0]}}


class TestSupervisely:
    def test_a_polygon_with_a_hole(self, tmp_path: Path) -> None:
        data = supervisely_folder(tmp_path / "data", train=1)
        file = data / "train" / "ann" / "000.png.json"
        outer, inner = [[10, 10], [50, 10], [50, 50], [10, 50]], [[20, 20], [40, 20], [40, 40], [20, 40]]
        objects = [
            {"classTitle": "berry", "geometryType": "polygon", "points": {"exterior": outer, "interior": [inner]}},
            {"classTitle": "leaf", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        ]
        file.write_text(json.dumps({**supervisely_json(scene(0)), "objects": objects}))
        dataset = opened(data, masks=True)["train"]
        (mask,) = dataset.objects(0).masks()
        assert dataset.objects(0).areas.tolist() == [1200]
        assert int(mask.sum()) == 1200
        assert (mask[15, 15], mask[30, 30]) == (1, 0)
        assert "1 points: not read as objects" in dataset.notes[0].message

    def test_ids_of_the_project_are_kept(self, tmp_path: Path) -> None:
        data = supervisely_folder(tmp_path / "data", train=2)
        rows = [{"title": name, "id": id_} for name, id_ in (("stone", 70), ("leaf", 71), ("berry", 5))]
        (data / "meta.json").write_text(json.dumps({"classes": rows}))
        assert opened(data)["train"].classes.to_list()[0] == {"id": 70, "name": "stone"}

    def test_label_maps(self, tmp_path: Path) -> None:
        data = supervisely_folder(tmp_path / "data")
        dataset = open_segmentation(str(data), 3, val_fraction=0, seed=0)["train"]
        assert dataset.classes.names == ("background", "berry", "leaf", "stone")
        truth = scene(0)
        painted = np.zeros((80, 96), int)
        for mask, label in zip(truth.masks, truth.labels, strict=True):
            painted[mask == 1] = label + 1
        assert (dataset.label_map(0) == painted).mean() > 0.98

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"geometryType": "polygon", "points": []}, "points must have exterior and interior"),
            ({"classTitle": 3, "geometryType": "polygon"}, "has no classTitle"),
            ({"geometryType": "any"}, "geometryType 'any' is not supported"),
            ({"classTitle": "moss", **TWO_CORNERS}, "'moss' is not known"),
            (bitmap("AAAA"), "not compressed by zlib"),
            (bitmap(bitmap_text(np.zeros((900, 900), np.uint8))), "900x900 px, where at most 96x80 fit"),
            (bitmap(""), "not base64 text"),
        ],
    )
    def test_bad_objects(self, value: Any, words: str, tmp_path: Path) -> None:
        data = supervisely_folder(tmp_path / "data", train=2)
        file = data / "train" / "ann" / "000.png.json"
        file.write_text(json.dumps({**supervisely_json(scene(0)), "objects": [{"classTitle": "berry", **value}]}))
        with pytest.raises(InputError, match=rf"000\.png\.json: objects\[0\]: .*{words}"):
            opened(data)

    def test_an_image_without_a_file_and_one_that_is_missing(self, tmp_path: Path) -> None:
        data = supervisely_folder(tmp_path / "data", train=2)
        (data / "train" / "ann" / "001.png.json").unlink()
        (data / "train" / "img" / "000.png").unlink()
        dataset = opened(data)["train"]
        assert dataset.left_out == (str(data / "train" / "img" / "001.png"),)
        with pytest.raises(InputError, match=r"000\.png: no such file .*000\.png\.json"):
            dataset.read(0)


class TestBoxTables:
    def table(self, root: Path, *rows: str, name: str = "boxes.csv") -> Path:
        image(root / "a.png")
        image(root / "b.png")
        (root / name).write_text("\n".join(rows) + "\n")
        return root / name

    def test_images_without_objects(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "image_path,xmin,ymin,xmax,ymax,label", "a.png,1,2,8,9,Tree", "b.png,0,0,0,0,Tree")
        dataset = opened(table)["all"]
        assert [len(dataset.objects(i)) for i in range(2)] == [1, 0]
        assert dataset.location(0, 0) == f"{table} line 2"

    def test_a_split_column(self, tmp_path: Path) -> None:
        head = "path;xmin;ymin;xmax;ymax;label;split"
        table = self.table(tmp_path, head, "a.png;1;2;8;9;x;train", "b.png;1;2;8;9;x;valid", "a.png;3;3;4;5;y;train")
        assert {split: len(dataset) for split, dataset in opened(table).items()} == {"train": 1, "val": 1}
        table = self.table(tmp_path, head, "a.png;1;2;8;9;x;train", "a.png;1;2;8;9;x;val")
        with pytest.raises(InputError, match=r"line 3: a\.png is in split 'val', but in 'train' on line 2"):
            opened(table)

    def test_ids_from_a_list_of_classes(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "a.png,1,2,8,9,Dead", "b.png,,,,,")
        (tmp_path / "classes.csv").write_text("Dead,7\nAlive,3\n")
        assert opened(table)["all"].classes.to_list() == [{"id": 3, "name": "Alive"}, {"id": 7, "name": "Dead"}]

    def test_groups_of_open_images(self, tmp_path: Path) -> None:
        data = open_images_folder(tmp_path / "data", train=2)
        file = data / "oidv6-train-annotations-bbox.csv"
        lines = file.read_text().splitlines()
        lines[1] = lines[1][:-1] + "1"
        file.write_text("\n".join(lines))
        assert opened(data)["train"].objects(0).crowd.tolist()[0]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (["a.png,1,2,8,9"], r"boxes\.csv line 3: 5 values, but 6 columns"),
            (["a.png,1,2,8,x,t"], "line 3: 'x' is not a number"),
            (["a.png,1,2,nan,9,t"], "line 3: 'nan' is not a position in an image"),
            (["a.png,1,2,,9,t"], "line 3: a box must have all four values"),
            (["a.png,1,2,8,9,"], "line 3: empty class"),
            ([",1,2,8,9,t"], "line 3: empty path"),
            (["../../etc/passwd,1,2,8,9,t"], "line 3: no image '../../etc/passwd' in"),
            (["/etc/hostname.png,1,2,8,9,t"], "line 3: no image"),
        ],
    )
    def test_bad_rows(self, rows: list[str], words: str, tmp_path: Path) -> None:
        table = self.table(tmp_path, "image_path,xmin,ymin,xmax,ymax,label", "b.png,1,2,8,9,Tree", *rows)
        with pytest.raises(InputError, match=words):
            opened(table)

    def test_shares_where_px_are_needed(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "image_path,xmin,ymin,xmax,ymax,label", "a.png,0.1,0.2,0.5,1,x")
        with pytest.raises(InputError, match="all boxes are within 0 to 1: they look like shares"):
            opened(table)

    def test_boxes_are_no_masks(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has boxes only: use train detect"):
            opened(box_table(tmp_path / "data"), masks=True)

    def test_several_tables(self, tmp_path: Path) -> None:
        rows = ("image_path,xmin,ymin,xmax,ymax,label", "a.png,1,2,8,9,Tree")
        self.table(tmp_path, *rows, name="one.csv")
        self.table(tmp_path, *rows, name="two.csv")
        with pytest.raises(InputError, match=r"several tables of boxes \(one.csv, two.csv\)"):
            opened(tmp_path)


class TestDarknet:
    def test_an_export_of_cvat(self, tmp_path: Path) -> None:
        data = darknet_folder(tmp_path / "data", layout="darknet", train=3)
        assert len(opened(data)["train"]) == 3
        assert len(opened(data / "obj.data")["train"]) == 3

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("classes 3\n", r"obj\.data line 1: expected key = value"),
            ("classes = 3\n", "names no file of class names"),
            ("names = ../../../etc/passwd\n", "names: no ../../../etc/passwd in its folder"),
            ("names = " + "9" * 400 + "\n", "names: no 999"),
            ("names = obj.names\n", r"names no images \(train = train.txt\)"),
        ],
    )
    def test_bad_data_files(self, text: str, words: str, tmp_path: Path) -> None:
        data = darknet_folder(tmp_path / "data", layout="darknet", train=2)
        (data / "obj.data").write_text(text)
        with pytest.raises(InputError, match=words):
            opened(data)

    @pytest.mark.parametrize(
        ("text", "words"),
        [("a\n\nb\n", "line 2: is blank"), ("a\na\n", "class names are not unique: a"), ("\n", "0 class names")],
    )
    def test_bad_names(self, text: str, words: str, tmp_path: Path) -> None:
        data = darknet_folder(tmp_path / "data", train=2)
        (data / "classes.txt").write_text(text)
        with pytest.raises(InputError, match=words):
            opened(data)

    def test_labels_beside_the_images(self, tmp_path: Path) -> None:
        image(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        dataset = opened(tmp_path)["all"]
        assert dataset.objects(0).boxes.tolist() == [[10, 7.5, 30, 22.5]]
        assert dataset.classes.names == ("cat", "dog")


def test_loose_files_do_not_hide_folders(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.txt").touch()
    for name in "fg":
        (tmp_path / name).mkdir()
    assert first_entries(tmp_path, 2, only_folders=True) == [tmp_path / "f", tmp_path / "g"]
    assert len(first_entries(tmp_path, 6)) == 6
    assert first_entries(tmp_path / "none") == []


class TestObjectFiles:
    def test_one_folder_alone(self, tmp_path: Path) -> None:
        data = object_files(tmp_path / "data", train=3, test=1)
        for masks in (data / "stage1_test").glob("*/masks"):
            for file in masks.iterdir():
                file.unlink()
            masks.rmdir()
        assert list(opened(data)) == ["train"]
        assert len(opened(data / "stage1_train")["all"]) == 3

    def test_an_empty_mask_is_a_box_without_area(self, tmp_path: Path) -> None:
        data = object_files(tmp_path / "data", train=1)
        folder = next((data / "stage1_train").iterdir())
        Image.new("L", (96, 80)).save(folder / "masks" / "empty.png")
        dataset = opened(data, masks=True)["train"].objects(0)
        assert len(dataset) == len(scene(0).labels) + 1
        assert len(dataset.clean((80, 96))) == len(scene(0).labels)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (Image.fromarray(np.arange(96 * 80, dtype=np.uint8).reshape(80, 96)), "has several values besides 0"),
            (Image.new("L", (5, 5), 1), "has another size than"),
            (Image.new("RGB", (96, 80)), "has 3 channels"),
        ],
    )
    def test_bad_masks(self, mask: Image.Image, words: str, tmp_path: Path) -> None:
        data = object_files(tmp_path / "data", train=1)
        folder = next((data / "stage1_train").iterdir())
        mask.save(folder / "masks" / "z.png")
        with pytest.raises(InputError, match=words):
            opened(data)["train"].objects(0)

    def test_an_image_too_many(self, tmp_path: Path) -> None:
        data = object_files(tmp_path / "data", train=3)
        folder = sorted((data / "stage1_train").iterdir())[0]
        image(folder / "images" / "second.png")
        with pytest.raises(InputError, match="has 2 images in images/, but its masks need exactly one"):
            opened(data)

    def test_label_maps(self, tmp_path: Path) -> None:
        dataset = open_segmentation(str(object_files(tmp_path / "data")), 3, val_fraction=0, seed=0)["train"]
        assert dataset.classes.names == ("background", "object")
        assert np.array_equal(dataset.label_map(0) == 1, scene(0).masks.any(0))


def test_labelme_is_found_before_coco(tmp_path: Path) -> None:
    data = labelme_folder(tmp_path / "data" / "annotations", train=2)
    assert isinstance(opened(data.parent)["train"], LabelmeDetection)
