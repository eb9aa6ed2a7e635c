"""Classes files in every form, their faults, and which classes are learnt."""

from pathlib import Path
from typing import Any

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.findings import Finding
from fishnet.data.segmentation.names import Legend, find_legend, labels_of, read_legend
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
        ("a.txt", "7 road\n3 traffic light", (7, 3), False),
        ("a.txt", "7: road\n3: traffic light", (7, 3), False),
        ("a.txt", "7,road\n3,traffic light", (7, 3), False),
        ("a.txt", "road: 7\ntraffic light: 3", (7, 3), False),
        ("a.txt", "-1 __ignore__\n7 road\n3 traffic light", (7, 3), False),
        ("a.txt", "128 64 128 road\n0 0 7 traffic light", (0, 1), True),
        ("a.txt", "128 64 128\t\troad\n  0 0   7\ttraffic light", (0, 1), True),
        ("a.txt", "road 128 64 128\ntraffic light 0 0 7", (0, 1), True),
        ("a.txt", "# label:color_rgb:parts:actions\nroad:128,64,128::\ntraffic light:0,0,7:a,b:", (0, 1), True),
        ("a.txt", "7 128 64 128 road\n3 0 0 7 traffic light", (7, 3), True),
        ("a.txt", "7 road 128 64 128\n3 traffic light 0 0 7", (7, 3), True),
        ("a.csv", "name,r,g,b\nroad,128,64,128\ntraffic light,0,0,7", (0, 1), True),
        ("a.csv", "B, G, Name, R\n128, 64, road, 128\n7, 0, traffic light, 0", (0, 1), True),
        ("a.csv", "id;more;name\n7;x;road\n3;y;traffic light", (7, 3), False),
        ("a.csv", " Pixel Value, Class\n7, road\n3, traffic light", (7, 3), False),
        ("a.csv", 'id,name\n7,"road"\n3,traffic light', (7, 3), False),
        ("a.csv", "7,road\n3,traffic light", (7, 3), False),
        ("a.json", '["road", "traffic light"]', (0, 1), False),
        ("a.json", '{"7": "road", "3": "traffic light"}', (7, 3), False),
    ],
)
def test_forms(name: str, text: str, ids: tuple[int, ...], coloured: bool, tmp_path: Path) -> None:
    found = legend(tmp_path / name, text)
    assert found.classes == Classes(TWO, ids)
    assert found.values == ids
    assert found.colours == (PACKED if coloured else ())
    assert found.place == str(tmp_path / name)
    assert found.stated == (ids == (7, 3))


def test_names_with_commas(tmp_path: Path) -> None:
    assert legend(tmp_path / "a.txt", "car, auto\nbus").classes.names == ("car, auto", "bus")
    assert legend(tmp_path / "a.csv", 'id,name\n0,"car, auto"\n1,bus').classes.names == ("car, auto", "bus")


def test_names_that_are_numbers(tmp_path: Path) -> None:
    assert legend(tmp_path / "a.txt", "3\n4\n").classes == Classes(("3", "4"), (0, 1))


def test_greys_are_the_numbers_of_grey_masks(tmp_path: Path) -> None:
    found = legend(tmp_path / "a.csv", "name,r,g,b\nno,0,0,0\nyes,255,255,255")
    assert (found.classes, found.values, found.colours) == (Classes.of(["no", "yes"]), (0, 255), (0, 0xFFFFFF))


def test_what_is_ignored(tmp_path: Path) -> None:
    found = legend(tmp_path / "a.txt", "0 0 0 road\n1 2 3 __ignore__\n4 5 6 sky")
    assert (found.classes, found.ignored_colours) == (Classes(("road", "sky"), (0, 2)), (0x010203,))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", r"a\.txt: names no class: give one a line"),
        ("a.txt", "road\n\nroad", r"line 3: name 'road' comes twice: .*a\.txt line 1 has it too"),
        ("a.txt", "1 road\n1 sky", r"line 2: id 1 comes twice: .*line 1"),
        ("a.txt", "0 0 0 road\n0 0 0 sky", r"line 2: colour \(0, 0, 0\) comes twice: .*line 1"),
        ("a.txt", "0 road\nsky", r"line 2: 'sky' is no 'id name', which line 1 is: write all lines alike"),
        ("a.txt", "sky\n1 road", r"line 2: '1 road' is no 'name', which line 1 is"),
        ("a.txt", "0 0 0 road\nsky", r"line 2: 'sky' is no 'r g b name'"),
        ("a.txt", "0 0 0 road\n0 0 256 sky", r"line 2: 'sky' has no red, green and blue of 0 to 255"),
        ("a.txt", "-2 road\n1 sky", r"line 1: id -2 of 'road': ids are 0 to 16777215"),
        ("a.csv", "name,r,g\nroad,1,2", r"line 2: 'road' has no red, green and blue of 0 to 255"),
        ("a.csv", "name,r,g,b\nroad,1,2", r"line 2: 3 values for 4 columns"),
        ("a.csv", "name,id\nroad,x", r"line 2: an id or a colour that is no whole number: road, x"),
        ("a.csv", "name,id\n,1", r"line 2: no name"),
        ("a.json", "{", r"a\.json line 1: not JSON"),
        ("a.json", '{"road": 0}', r"a\.json: expected a list of names, or an object of names by id"),
        ("a.json", '{"x": "road"}', r"a\.json 'x': an id or a colour that is no whole number"),
        ("a.json", '["road", "road"]', r"a\.json entry 1: name 'road' comes twice"),
    ],
)
def test_faults(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as error:
        legend(tmp_path / name, text)
    assert "\n" not in str(error.value)


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
    found = find_legend(first, second)
    assert found is not None
    assert found.classes.names == ("a", "b")


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
    classes, found = labels_of(NAMED, "classes.txt", **options)
    assert (classes.names, found) == (names, labels)
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
            r"classes.txt: has 256 classes: no more than 255 can be learnt$",
        ),
        (NAMED, {"classes": Classes.of(["road", "sky"])}, r"classes the model does not know: car, void \(it knows"),
    ],
)
def test_what_cannot_be_learnt(named: Classes, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        labels_of(named, "classes.txt", **options)


def test_classes_that_a_model_lacks_are_collected() -> None:
    problems: list[Finding] = []
    known = Classes.of(["sky", "road", "void"])
    assert labels_of(NAMED, "classes.txt", classes=known, problems=problems) == (known, (1, 0, 255, 2))
    assert [one.message for one in problems] == [
        "classes.txt: the data has classes the model does not know: car (it knows sky, road, void)"
    ]
