"""Untrusted JSON, YAML and XML: bounded in size, depth and expansion. Every error is one line."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import yaml

from fishnet.errors import InputError
from fishnet.files.reading import MIB, decoded, read_bytes

DEPTH = 64  # maximum levels of nesting
_MAX_DIGITS = 400  # maximum digits of a number: more than any float has
_MAX_YAML_NODES = 2_000_000
_YAML_DATE = "tag:yaml.org,2002:timestamp"


def read_json(path: str | Path, limit: int = 256 * MIB) -> Any:
    """Reads a JSON file. Raises as :func:`parse_json` and :func:`~fishnet.files.reading.read_bytes`."""
    return parse_json(read_bytes(path, limit, "JSON file"), str(path))


def parse_json(content: bytes | str, source: str) -> Any:
    """Parses JSON text to plain values.

    Args:
        content: UTF-8 text, with or without a byte order mark.
        source: the file, for messages.

    Raises:
        InputError: not UTF-8, not JSON (which has neither NaN nor Infinity), nested too deeply, a number of too many
            digits, or a key that comes twice in one object. The message names the source, and the line where it is
            known.
    """
    text = decoded(content, source) if isinstance(content, bytes) else content
    try:
        values = json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_parse_int,
            parse_float=_parse_float,
            object_pairs_hook=_unique_keys,
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{source} line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{source}: nested too deeply (at most {DEPTH} levels)") from None
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if deeper_than(values, DEPTH):
        raise InputError(f"{source}: nested too deeply (at most {DEPTH} levels)")
    return values


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises InputError for a key that comes twice, where either value could be meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InputError(f"the key {key[:40]!r} comes twice in one object: remove one")
    return values


def deeper_than(values: Any, levels: int) -> bool:
    """Whether lists and dicts are nested more than ``levels`` deep."""
    layer = [values]
    for _ in range(levels + 1):
        layer = [
            item
            for value in layer
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
        if not layer:
            return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise InputError(f"holds {name}, which is not JSON")


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InputError(f"holds a number of {len(text):,} digits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InputError(f"holds {text[:20]}, which is beyond the range of floats")
    return value


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases and deep nesting. Dates stay text."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported: write the value out", problem_mark=mark
            )
        self.nodes += 1
        self.depth += 1
        if self.nodes > _MAX_YAML_NODES or self.depth > DEPTH:
            problem = "nested too deeply" if self.depth > DEPTH else "too many values"
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        try:
            node = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated(node)
        return node


def _refuse_repeated(node: yaml.MappingNode) -> None:
    """Refuses a key that comes twice. YAML's loader would silently take the last value."""
    seen = set[tuple[str, str]]()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            problem = f"the key {key.value[:40]!r} comes twice: remove one"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add((key.tag, key.value))


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _YAML_DATE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: str | Path, limit: int = 16 * MIB) -> Any:
    """Reads a YAML file. Raises as :func:`parse_yaml` and :func:`~fishnet.files.reading.read_bytes`."""
    return parse_yaml(read_bytes(path, limit, "YAML file"), str(path))


def parse_yaml(content: bytes | str, source: str) -> Any:
    """Parses YAML text to plain values: dicts, lists, strings, numbers, booleans and None. Dates stay strings.

    Args:
        content: UTF-8 text, with or without a byte order mark.
        source: the file, for messages.

    Raises:
        InputError: not UTF-8, not YAML, tags of other types, aliases (which can expand to any size), a key that comes
            twice, or nested too deeply. The message names the source and the line.
    """
    text = decoded(content, source) if isinstance(content, bytes) else content
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise InputError(f"{source}{line}: not YAML: {problem}") from None
    except RecursionError:
        raise InputError(f"{source}: nested too deeply (at most {DEPTH} levels)") from None
    except (ValueError, TypeError, OverflowError) as error:  # numbers of too many digits, unhashable keys
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{source}: holds a value that cannot be read ({reason[:80]})") from None


_XML_DECLARED = re.compile(rb"^\s*<\?xml[^>]*encoding\s*=\s*[\"']([A-Za-z0-9._-]+)")


def parse_xml(
    content: bytes,
    source: str,
    *,
    start: Callable[[str, dict[str, str], int], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
    depth: int = DEPTH,
) -> None:
    """Parses XML, with a callback for each element and text.

    Args:
        content: the file's bytes, in any encoding that expat reads (UTF-8, UTF-16, Latin-1, ASCII).
        source: the file, for messages.
        start: called with each element's tag, attributes and line, from 1.
        end: called with each tag that ends.
        text: called with the text between tags, in pieces.
        depth: maximum levels of nesting.

    Raises:
        InputError: not XML, an unknown or wrong encoding, nested too deeply, or a declared entity (which can expand
            to any size). The message names the source and the line.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    above = 0

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal above
        above += 1
        if above > depth:
            raise InputError(f"{source} line {parser.CurrentLineNumber}: nested too deeply (at most {depth} levels)")
        start(tag, attributes, parser.CurrentLineNumber)

    def finish(tag: str) -> None:
        nonlocal above
        above -= 1
        end(tag)

    def refuse(*_: Any) -> NoReturn:
        line = parser.CurrentLineNumber
        raise InputError(f"{source} line {line}: declares an XML entity, which is not supported: remove it")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, finish, text
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        declared = _XML_DECLARED.match(content)
        encoding = f" (it declares the encoding {declared[1].decode()})" if declared else ""
        raise InputError(f"{source} line {error.lineno}: not XML: {expat.ErrorString(error.code)}{encoding}") from None
    except (ValueError, LookupError, UnicodeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: not XML ({' '.join(str(error).split())[:80]})") from None
