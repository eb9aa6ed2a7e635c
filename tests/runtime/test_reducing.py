"""Hostile ONNX files: they are refused in one line, and at once."""

import pytest

from fishnet.errors import InputError
from fishnet.runtime.reducing import reduced


def field(number: int, content: bytes) -> bytes:
    length, parts = len(content), [number << 3 | 2]
    while length > 0x7F:
        parts.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*parts, length]) + content


def nested(depth: int) -> bytes:
    """A graph with a node whose branch has a node, and so on."""
    graph = field(1, field(2, b"out"))
    for _ in range(depth):
        graph = field(1, field(2, b"out") + field(5, field(6, graph)))
    return field(7, graph)


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 1_000_000, field(7, b"\xff" * 1_000_000), nested(2_000), b"\x0b", field(7, field(1, field(2, b"\xff")))],
    ids=["a long number", "a long number in the graph", "deeply nested", "an unknown type", "a name that is no text"],
)
def test_hostile_files_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="not an ONNX file, or damaged"):
        reduced(content, ["out"])


def test_a_nested_graph_is_kept() -> None:
    assert reduced(nested(5), ["out"]) == nested(5)
