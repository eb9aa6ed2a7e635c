"""How the parts of a data set are spelled."""

from collections.abc import Iterable

SPLITS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testset"),
}
SPELLED = tuple(word for words in SPLITS.values() for word in words)


def split_named(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for a usual spelling of it, whatever its case; None for other words."""
    word = word.strip().lower()
    return next((split for split, words in SPLITS.items() if word in words), None)


def in_order(splits: Iterable[str]) -> list[str]:
    """Each part once: train, which says what the classes are, then val, then test."""
    found = set(splits)
    return [split for split in (*SPLITS, "all") if split in found]
