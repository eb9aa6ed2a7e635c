"""JSON, YAML and XML: what is plain is read, what is hostile is one line."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishnet.errors import InputError
from fishnet.files.documents import parse_json, parse_xml, parse_yaml

BILLION = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


def test_plain_json() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "x", null, true]}', "f") == {"a": [1, 2.5, "x", None, True]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": NaN}', "f: holds NaN"),
        (b'{"a": -Infinity}', "f: holds -Infinity"),
        (b'{"a": 1e999}', "f: holds 1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", "f: holds a number of 5,000 digits"),
        (b"[" * 100_000, "f: nested too deeply"),
        (b"[" * 80 + b"]" * 80, "f: nested too deeply"),
        (b'{"a": 1,\n}', "f line 2: not JSON"),
        (b"\xff\xfe", "f line 1: not UTF-8"),
        (b"", "f line 1: not JSON"),
    ],
)
def test_json_that_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_json(content, "f")


def test_plain_yaml_keeps_dates_as_text() -> None:
    values = parse_yaml("day: 2020-01-02\ntime: 2020-01-02 03:04:05\nn: [1, 2.5, yes, ~]\n", "f")
    assert values == {"day": "2020-01-02", "time": "2020-01-02 03:04:05", "n": [1, 2.5, True, None]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BILLION, "f line 2: .*aliases"),
        ("a: &a [*a]", "f line 1: .*aliases"),
        ("[" * 10_000, "f line 1: .*nested too deeply"),
        ("!!python/object/apply:os.system [ls]", "f line 1: "),
        ("a: [1\nb: 2", "f line 2"),
        ("a: " + "9" * 5000, "f: holds a value"),
        ("? [1, 2]\n: 3", "f line 1"),
        ("a: \x07", "f.*not YAML"),
    ],
)
def test_yaml_that_is_refused(content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_yaml(content, "f")


def read(content: bytes) -> list[Any]:
    seen: list[Any] = []
    parse_xml(
        content,
        "f",
        start=lambda tag, attributes, line: seen.append((tag, attributes, line)),
        end=lambda tag: seen.append(f"/{tag}"),
        text=seen.append,
    )
    return seen


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_plain_xml_in_several_encodings(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><a x="1">grün</a>'
    assert read(text.encode(encoding)) == [("a", {"x": "1"}, 1), "grün", "/a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<a>" * 700_000, "f line 1: nested too deeply"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "f line 1: declares an XML entity"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "f.*no-such"),
        (b'<?xml version="1.0" encoding="utf-16"?><a/>', "f.*utf-16"),
        (b"<a>\xff</a>", "f line 1"),
        (b"<a>\n<b></a>", "f line 2"),
        (b"", "f line 1"),
    ],
)
def test_xml_that_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(content)


def refusal(parse: Callable[[], object]) -> str:
    """The message of a refusal; empty where there was none."""
    try:
        parse()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("parse", [parse_json, parse_yaml, lambda content, _: read(content)])
@given(content=st.binary(max_size=200))
def test_bytes_give_values_or_one_line(parse: Callable[[bytes, str], object], content: bytes) -> None:
    message = refusal(lambda: parse(content, "f"))
    assert "\n" not in message
    assert message.startswith("f") or not message


@given(content=st.text(alphabet="[]{}:,-? &*!|>'\"%@`\n\t0aé.e1#", max_size=60))
def test_yaml_signs_give_values_or_one_line(content: str) -> None:
    assert "\n" not in refusal(lambda: parse_yaml(content, "f"))
