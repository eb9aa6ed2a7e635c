"""Classes files in every form, their faults, and which classes are learned."""

from pathlib import Path
from typing import Any

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.segmentation.names import Legend, assign_labels, find_legend, read_legend
from fishnet.errors import InputError

TWO = ("road", "traffic light")
RGB = ((128, 64, 128), (0, 0, 7))
PACKED = (0x804080, 0x000007)


def legend(path: Path, text: str) -> Legend:
    path.write_text(text)
    return read_legend(path)


@pytest.mark.parametrize(
    ("name", "text", "ids", "coloured"),
    [
        ("a.txt", "road\ntraffic light\n", (0, 1), False),
        ("a.txt", "# names\n\nroad\r\n traffic light \n", (0, 1), False),
        ("a.txt", "__ignore__\nroad\ntraffic light", (0, 1), False),
        ("a.txt", "id,name\n7,road\n3,traffic light", (7, 3), False),
        ("a.txt", "# classes\nid, name\n-1, __ignore__\n7, road\n3, traffic light", (7, 3), False),
        ("a.csv", "id;more;name\n7;x;road\n3;y;traffic light", (7, 3), False),
        ("a.csv", " Pixel Value, Class\n7, road\n3, traffic light", (7, 3), False),
        ("a.csv", 'id\tname\n7\t"road"\n3\ttraffic light', (7, 3), False),
        ("a.csv", "name,r,g,b\nroad,128,64,128\ntraffic light,0,0,7", (0, 1), True),
        ("a.csv", "B, G, Name, R\n128, 64, road, 128\n7, 0, traffic light, 0", (0, 1), True),
        ("a.csv", "id,name,r,g,b\n7,road,128,64,128\n3,traffic light,0,0,7", (7, 3), True),
        ("a.txt", "# label:color_rgb:parts:actions\nroad:128,64,128::\ntraffic light:0,0,7:a,b:", (0, 1), True),
        ("label_colors.txt", "128 64 128\t\troad\n  0 0   7\ttraffic light", (0, 1), True),
        ("label_colors.txt", "name,r,g,b\nroad,128,64,128\ntraffic light,0,0,7", (0, 1), True),
        ("a.json", '{"7": "road", "3": "traffic light"}', (7, 3), False),
    ],
)
def test_forms(name: str, text: str, ids: tuple[int, ...], coloured: bool, tmp_path: Path) -> None:
    read = legend(tmp_path / name, text)
    assert read.classes == Classes(TWO, ids)
    assert read.values == ids
    assert read.colours == (PACKED if coloured else ())
    assert read.location == str(tmp_path / name)
    assert read.has_ids == (ids == (7, 3))


def test_names_with_commas(tmp_path: Path) -> None:
    assert legend(tmp_path / "a.txt", "car, auto\nbus").classes.names == ("car, auto", "bus")
    assert legend(tmp_path / "a.csv", 'id,name\n0,"car, auto"\n1,bus').classes.names == ("car, auto", "bus")


def test_names_that_are_numbers(tmp_path: Path) -> None:
    assert legend(tmp_path / "a.txt", "3\n4\n").classes == Classes(("3", "4"), (0, 1))


def test_greys_are_the_numbers_of_grey_masks(tmp_path: Path) -> None:
    read = legend(tmp_path / "a.csv", "name,r,g,b\nno,0,0,0\nyes,255,255,255")
    assert (read.classes, read.values, read.colours) == (Classes.of(["no", "yes"]), (0, 255), (0, 0xFFFFFF))


def test_what_is_ignored(tmp_path: Path) -> None:
    read = legend(tmp_path / "a.txt", "name,r,g,b\nroad,0,0,0\n__ignore__,1,2,3\nsky,4,5,6")
    assert (read.classes, read.ignored_colours) == (Classes(("road", "sky"), (0, 2)), (0x010203,))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", r"a\.txt: names no class: write one name a line"),
        ("a.txt", "road\n\nroad", r"line 3: name 'road' occurs twice: also at .*a\.txt line 1$"),
        ("a.txt", "id,name\n1,road\n1,sky", r"line 3: id 1 occurs twice: also at .*line 2"),
        ("a.txt", "name,r,g,b\nroad,0,0,0\nsky,0,0,0", r"line 3: colour \(0, 0, 0\) occurs twice: also at .*line 2"),
        ("a.txt", "name,r,g,b\nroad,0,0,0\nsky,0,0,256", r"line 3: 'sky' has no red, green and blue of 0 to 255"),
        ("a.txt", "id,name\n-2,road\n1,sky", r"line 2: id -2 of 'road': ids are 0 to 16777215"),
        ("a.csv", "name,r,g\nroad,1,2", r"line 2: 'road' has no red, green and blue of 0 to 255"),
        ("a.csv", "name,r,g,b\nroad,1,2", r"line 2: 3 values for 4 columns"),
        ("a.csv", "name,id\nroad,x", r"line 2: id of 'road' must be a whole number, not 'x'"),
        ("a.csv", "name,id\n,1", r"line 2: no name"),
        (
            "a.txt",
            "# label:color_rgb:parts:actions\nroad:1,2::",
            r"line 2: 'road' has no red, green and blue of 0 to 255",
        ),
        ("label_colors.txt", "0 0 0", r"line 1: 3 values for 4 columns: r, g, b, name$"),
        ("label_colors.txt", "road 0 0 0", r"line 1: r of '0' must be a whole number, not 'road'"),
        ("a.json", "{", r"a\.json line 1: not JSON"),
        ("a.json", '{"x": "road"}', r"a\.json 'x': id of 'road' must be a whole number, not 'x'"),
    ],
)
def test_faults(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as error:
        legend(tmp_path / name, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "7 road\n3 sky", "7: road\n3: sky", "7,road\n3,sky", "road: 7\nsky: 3", "road\n7 sky", "128 64 128 road",
        "road 128 64 128", "road:128,64,128::", "7 128 64 128 road", "7 road 128 64 128", "id name\n7 road",
        "road #804080",
    ],
)  # fmt: skip
def test_forms_that_are_not_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        legend(tmp_path / "a.txt", text)
    number, line = (1, text.splitlines()[0]) if not text.startswith(("road\n", "id")) else (2, text.splitlines()[1])
    assert str(error.value) == (
        f"{tmp_path}/a.txt line {number}: {line!r} is more than a name: for ids or colours, begin the file with a line "
        "that names its columns, such as id,name (then 7,road) or name,r,g,b (then road,128,64,128)"
    )


@pytest.mark.parametrize("text", ['["road", "sky"]', '{"road": 0}', "7"])
def test_json_that_is_not_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r'a\.json: expected an object of names by id, such as \{"0": "road", "1": "sky"\}'
    ):
        legend(tmp_path / "a.json", text)


@pytest.mark.parametrize("name", ["a.txt", "a.json"])
def test_not_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"road\n\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_legend(tmp_path / name)


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert find_legend(first) is None
    second.mkdir()
    (second / "Classes.txt").write_text("a\nb")
    (second / "codes.txt").write_text("c\nd")
    read = find_legend(first, second)
    assert read is not None
    assert read.classes.names == ("a", "b")


NAMED = Classes(("road", "sky", "car", "void"), (7, 23, 26, 0))


@pytest.mark.parametrize(
    ("options", "names", "labels"),
    [
        ({}, ("road", "sky", "car", "void"), (0, 1, 2, 3)),
        ({"void": ["void"]}, ("road", "sky", "car"), (0, 1, 2, 255)),
        ({"void": ["road"], "ignore": [0]}, ("sky", "car"), (255, 0, 1, 255)),
        ({"ignore": [26, 5]}, ("road", "sky", "void"), (0, 1, 255, 2)),
        ({"classes": Classes.of(["car", "road", "sky", "void"])}, ("car", "road", "sky", "void"), (1, 2, 0, 3)),
        (
            {"classes": Classes.of(["car", "road", "sky", "x"]), "void": ["void", "else"]},
            ("car", "road", "sky", "x"),
            (1, 2, 0, 255),
        ),
    ],
)
def test_what_is_learnt(options: Any, names: tuple[str, ...], labels: tuple[int, ...]) -> None:
    classes, assigned = assign_labels(NAMED, "classes.txt", **options)
    assert (classes.names, assigned) == (names, labels)
    if "classes" not in options:
        assert classes.ids == tuple(NAMED.ids[NAMED.names.index(name)] for name in names)


@pytest.mark.parametrize(
    ("named", "options", "words"),
    [
        (NAMED, {"void": ["rode"]}, r"void 'rode': classes.txt names no such class: did you mean road\?"),
        (NAMED, {"void": ["road", "sky", "car"]}, r"classes.txt: has one class only \(void\): segmentation needs two"),
        (NAMED, {"ignore": NAMED.ids}, r"classes.txt: has no class: segmentation needs two"),
        (
            Classes.of(str(i) for i in range(256)),
            {},
            r"classes.txt: has 256 classes: segmentation can learn at most 255$",
        ),
        (NAMED, {"classes": Classes.of(["road", "sky"])}, r"classes the model does not know: car, void \(it knows"),
    ],
)
def test_what_cannot_be_learnt(named: Classes, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        assign_labels(named, "classes.txt", **options)


def test_classes_that_a_model_lacks_are_collected() -> None:
    known = Classes.of(["sky", "road", "void"])
    with collecting() as collector:
        assert assign_labels(NAMED, "classes.txt", classes=known) == (known, (1, 0, 255, 2))
    assert [one.message for one in collector.findings] == [
        "classes.txt: the data has classes the model does not know: car (it knows sky, road, void)"
    ]
