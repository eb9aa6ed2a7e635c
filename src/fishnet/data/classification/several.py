"""Refuses tables with several labels per image where one is expected. Torch-free."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from fishnet.errors import InputError

SEPARATORS = ("|", ";", ",", " ")
_STRICT = ("|", ";")  # never part of a class's name
_LIST = re.compile(r"\s*[\[{(].*[,|;].*[\])}]\s*", re.DOTALL)
_MAX_NAMES = 2  # labels are lists if there are more than twice as many as words, and of more than two lengths
REFUSED = (
    "images with several labels need multi_label (--multi-label), which reads tables and objects. Otherwise write one "
    "label per image, or remove the separator if it is part of a class's name"
)


def refuse_several(labels: Iterable[str], where: str) -> None:
    """Refuses labels that are lists of labels, such as ``cat|dog``, ``cat, dog`` or ``['cat', 'dog']``.

    A class's name may contain a separator (``tench, Tinca tinca``), so a label is a list only if its words are in other
    labels too. Commas and spaces are common in names: with these separators, each word must also be a label by itself,
    or there must be far more combinations than words.

    Args:
        labels: all labels, or the distinct ones.
        where: the table and its column, for the message.

    Raises:
        InputError: the labels are lists; the message names the first.
    """
    distinct = sorted(set(labels))
    example = next((label for label in distinct if _LIST.fullmatch(label)), None)
    example = example or next((label for mark in SEPARATORS if (label := combined(distinct, mark))), None)
    if example is not None:
        raise InputError(f"{where}: {example!r} looks like several labels: {REFUSED}")


def combined(distinct: Sequence[str], mark: str) -> str | None:
    """A label that is a list of other labels, joined by one separator; None if there is none."""
    words = {label: [word.strip() for word in label.split(mark) if word.strip()] for label in distinct}
    lists = {label: pieces for label, pieces in words.items() if len(pieces) > 1}
    if not lists:
        return None
    alone = {pieces[0] for pieces in words.values() if len(pieces) == 1}
    uses = Counter(word for pieces in words.values() for word in set(pieces))
    lengths = {len(pieces) for pieces in words.values()}
    shared = {label for label, pieces in lists.items() if all(uses[word] > 1 for word in pieces)}
    if mark in _STRICT:
        return min((label for label, pieces in lists.items() if any(uses[word] > 1 for word in pieces)), default=None)
    if len(shared) * 2 >= len(lists) and len(distinct) > _MAX_NAMES * len(uses) and len(lengths) > _MAX_NAMES:
        return min(shared)
    if mark == "," and len(shared) == len(lists) and len(distinct) >= len(uses):
        return min(shared)
    return min((label for label, pieces in lists.items() if alone.issuperset(pieces)), default=None)


def refuse_indicators(names: Sequence[str], rows: Iterable[Sequence[object]], where: str) -> None:
    """Refuses a table without a label column whose classes are columns of 0 and 1.

    Args:
        names: the names of the columns.
        rows: some of the rows.
        where: the table, for the message.

    Raises:
        InputError: two columns or more contain only 0 and 1.
    """
    sample = list(rows)
    columns = list(zip(*sample, strict=True)) if sample else []
    indicators = [name for name, values in zip(names, columns, strict=False) if set(map(_plain, values)) <= {"0", "1"}]
    if len(indicators) > 1:
        shown = ", ".join(indicators[:5]) + (", ..." if len(indicators) > 5 else "")
        raise InputError(
            f"{where}: no label column, but one-hot columns of 0 and 1 ({shown}): use multi_label (--multi-label), or "
            "write the class's name into one column 'label'"
        )


def _plain(value: object) -> str:
    text = str(value).strip().lower()
    return {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}.get(text, text)
