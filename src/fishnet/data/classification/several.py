"""Tables with several labels an image, which are refused until there is a task for them. Torch-free."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from fishnet.errors import InputError

SEPARATORS = ("|", ";", ",", " ")
_STRICT = ("|", ";")  # no class's name has these
_LIST = re.compile(r"\s*[\[{(].*[,|;].*[\])}]\s*", re.DOTALL)
_MOST = 2  # times as many combinations of words as words: these are labels
REFUSED = (
    "several labels an image are not supported yet: write one label each, or leave the separator out where it is part "
    "of a class's name"
)


def refuse_several(labels: Iterable[str], where: str) -> None:
    """Refuses labels that are lists of labels, such as ``cat|dog``, ``cat, dog`` or ``['cat', 'dog']``.

    A class's own name may hold a separator (``tench, Tinca tinca``): a label counts as a list where its words come in
    other labels too. At commas and blanks, which names do have, each word must be a label by itself, or there must be
    far more combinations than words.

    Args:
        labels: all of them, or those that differ.
        where: the table and its column, for the message.

    Raises:
        InputError: they are lists; the first is named.
    """
    distinct = sorted(set(labels))
    example = next((label for label in distinct if _LIST.fullmatch(label)), None)
    example = example or next((found for mark in SEPARATORS if (found := _combined(distinct, mark))), None)
    if example is not None:
        raise InputError(f"{where}: {example!r} looks like several labels: {REFUSED}")


def _combined(distinct: Sequence[str], mark: str) -> str | None:
    """A label that is a list of others at one separator; None where there is none."""
    words = {label: [word.strip() for word in label.split(mark) if word.strip()] for label in distinct}
    lists = {label: parts for label, parts in words.items() if len(parts) > 1}
    if not lists:
        return None
    alone = {parts[0] for parts in words.values() if len(parts) == 1}
    uses = Counter(word for parts in words.values() for word in set(parts))
    lengths = {len(parts) for parts in words.values()}
    shared = {label for label, parts in lists.items() if all(uses[word] > 1 for word in parts)}
    if mark in _STRICT:
        return min((label for label, parts in lists.items() if any(uses[word] > 1 for word in parts)), default=None)
    if len(shared) * 2 >= len(lists) and len(distinct) > _MOST * len(uses) and len(lengths) > _MOST:
        return min(shared)
    if mark == "," and len(shared) == len(lists) and len(distinct) >= len(uses):
        return min(shared)
    return min((label for label, parts in lists.items() if alone.issuperset(parts)), default=None)


def refuse_indicators(names: Sequence[str], rows: Iterable[Sequence[object]], where: str) -> None:
    """Refuses a table without a label column where columns of 0 and 1 stand for the classes.

    Args:
        names: of the columns.
        rows: some of the rows.
        where: the table, for the message.

    Raises:
        InputError: two columns or more hold 0 and 1 alone, and each of them a 1 or a 0.
    """
    sample = list(rows)
    columns = list(zip(*sample, strict=True)) if sample else []
    chosen = [name for name, values in zip(names, columns, strict=False) if set(map(_plain, values)) <= {"0", "1"}]
    if len(chosen) > 1:
        shown = ", ".join(chosen[:5]) + (", ..." if len(chosen) > 5 else "")
        raise InputError(
            f"{where}: no column for the label, but columns of 0 and 1: {shown}: one column a class (one-hot, or "
            "several labels an image) is not supported yet: write the class's name into one column 'label'"
        )


def _plain(value: object) -> str:
    text = str(value).strip().lower()
    return {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}.get(text, text)
