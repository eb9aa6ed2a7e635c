"""The usual names of a dataset's splits. Torch-free."""

from collections.abc import Iterable

SPLITS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testset"),
}
SPELLED = tuple(word for words in SPLITS.values() for word in words)


def split_named(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for a usual spelling of it in any case; None for other words."""
    word = word.strip().lower()
    return next((split for split, words in SPLITS.items() if word in words), None)


def in_order(splits: Iterable[str]) -> list[str]:
    """The distinct splits in order: train, which defines the classes, then val, test and all."""
    present = set(splits)
    return [split for split in (*SPLITS, "all") if split in present]
