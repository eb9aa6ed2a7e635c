"""Cuts an ONNX graph down to the part that some of its outputs need. Torch-free, and without the package onnx.

onnxruntime computes everything in a file, whichever outputs a caller asks for. So for some heads of a model with
several, it opens a copy without the nodes and weights of the others.

An ONNX file is a protocol buffer (https://protobuf.dev/programming-guides/encoding): fields of a number, a type and a
value. The numbers are those of ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Iterable, Iterator

from fishnet.errors import InputError

_GRAPH = 7  # of a model
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12  # of a graph
_NODE_INPUT, _NODE_OUTPUT, _ATTRIBUTE = 1, 2, 5  # of a node
_BRANCHES = 6, 11  # of an attribute: one graph, several graphs
_TENSOR_NAME, _VALUE_NAME = 8, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # types of fields
_VARINT_BITS = 70  # a number has at most 10 bytes of 7 bits each


def reduced(content: bytes, names: Iterable[str]) -> bytes:
    """A file's content with some of its outputs and only what they need.

    Args:
        content: of an ONNX file, with its nodes in the order in which they run, as the format demands.
        names: of the outputs to keep.

    Raises:
        InputError: not an ONNX file.
    """
    try:
        return b"".join(
            _field(_GRAPH, _reduced_graph(value, set(names))) if number == _GRAPH else bytes(raw)
            for number, value, raw in _fields(memoryview(content))
        )
    except (IndexError, ValueError, RecursionError) as error:
        raise InputError(f"not an ONNX file, or damaged ({error})") from error


def _reduced_graph(graph: memoryview, names: set[str]) -> bytes:
    fields = list(_fields(graph))
    needed, kept = set(names), set[int]()
    for index in range(len(fields) - 1, -1, -1):
        number, value, _ = fields[index]
        if number == _NODE and needed & set(_texts(value, _NODE_OUTPUT)):
            kept.add(index)
            needed |= set(_used(value))
    parts = []
    for index, (number, value, raw) in enumerate(fields):
        dropped = (
            (number == _NODE and index not in kept)
            or (number == _INITIALIZER and not needed & set(_texts(value, _TENSOR_NAME)))
            or (number == _OUTPUT and not names & set(_texts(value, _VALUE_NAME)))
        )
        if not dropped:
            parts.append(raw)
    return b"".join(parts)


def _used(node: memoryview) -> Iterator[str]:
    """The names of a node's inputs, and of all values in its branches, which may belong to the graph around them."""
    for number, value, _ in _fields(node):
        if number == _NODE_INPUT:
            yield str(value, "utf-8")
        elif number == _ATTRIBUTE:
            for part, branch, _ in _fields(value):
                if part in _BRANCHES:
                    yield from _used_in(branch)


def _used_in(graph: memoryview) -> Iterator[str]:
    for number, value, _ in _fields(graph):
        if number == _NODE:
            yield from _used(value)
        elif number == _OUTPUT:
            yield from _texts(value, _VALUE_NAME)


def _texts(message: memoryview, wanted: int) -> Iterator[str]:
    return (str(value, "utf-8") for number, value, _ in _fields(message) if number == wanted)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, value and all bytes of each field; the value of a field that holds a number is empty."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        value = message[:0]
        if key & 7 == _BYTES:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif key & 7 == _VARINT:
            _, position = _varint(message, position)
        elif key & 7 in (_FIXED64, _FIXED32):
            position += 8 if key & 7 == _FIXED64 else 4
        else:
            raise ValueError(f"a field of type {key & 7}")
        if position > len(message):
            raise IndexError("it is cut off")
        yield key >> 3, value, message[start:position]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of variable length, and the position after it."""
    result = shift = 0
    while True:
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift >= _VARINT_BITS:  # else a hostile file could keep the loop busy for hours
            raise ValueError("a number of more than 64 bits")


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes."""
    length, parts = len(value), [number << 3 | _BYTES]
    while length > 0x7F:
        parts.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*parts, length]) + value
