"""Tiny-ImageNet as ``fishnet train classify`` reads it: a folder per class, named by its words.

    git clone https://github.com/seshuad/IMagenet SRC   # 100,000 train and 10,000 val photos of 64 px, 200 classes
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 OUT
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 OUT-100 --classes 100

OUT gets ``train/CLASS/FILE.JPEG`` and ``val/CLASS/FILE.JPEG``: hard links, or copies where the file system has none.
CLASS is the first of the words that WordNet has for the class's number, e.g. ``goldfish`` for n01443537. With
``--classes N`` the first N classes by number are kept. The command stops if the source has other files than the
published ones: 500 photos a class in train, 50 in val, and the bytes of all of them as this project found them.

The photos are ImageNet's, whose terms allow non-commercial research and education only; Tiny-ImageNet was made for
Stanford's course CS231n. No photo is in this project.
"""

import argparse
import hashlib
from collections import Counter
from pathlib import Path

from runs import link

CLASSES, TRAIN, VAL = 200, 500, 50  # classes, and photos of each
# SHA-256 over the SHA-256 of each file, in the order of their paths.
DIGEST = "370b5f18bcad6e9859b15591bc41366a06576f381f586f5b602f460813eda66c"


def photos(source: Path, classes: int) -> dict[str, list[tuple[Path, str]]]:
    """File and class name of the photos of the first classes, by split."""
    words = dict(line.split("\t") for line in (source / "words.txt").read_text().splitlines())
    numbers = sorted(path.name for path in (source / "train").iterdir())[:classes]
    names = {number: words[number].partition(",")[0] for number in numbers}
    labels = [line.split("\t")[:2] for line in (source / "val" / "val_annotations.txt").read_text().splitlines()]
    return {
        "train": [
            (path, name)
            for number, name in names.items()
            for path in sorted((source / "train" / number / "images").iterdir())
        ],
        "val": [(source / "val" / "images" / file, names[number]) for file, number in labels if number in names],
    }


def check(found: dict[str, list[tuple[Path, str]]]) -> None:
    """Raises SystemExit if there are other photos than the published ones."""
    for split, expected in (("train", TRAIN), ("val", VAL)):
        counts = Counter(name for _, name in found[split])
        if len(counts) != CLASSES or set(counts.values()) != {expected}:
            raise SystemExit(
                f"{split}: expected {CLASSES} classes of {expected} photos, found {len(counts)} classes of "
                f"{min(counts.values(), default=0)} to {max(counts.values(), default=0)}"
            )
    total = hashlib.sha256()
    for path, name in sorted(found["train"] + found["val"]):
        total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    if total.hexdigest() != DIGEST:
        raise SystemExit(f"the photos or labels differ from those measured: {total.hexdigest()}, expected {DIGEST}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="the folder with train, val and words.txt")
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=CLASSES, help="keep only the first classes by number")
    args = parser.parse_args()
    check(photos(args.source, CLASSES))
    kept = photos(args.source, args.classes)
    for split, files in kept.items():
        for path, name in files:
            target = args.out / split / name / path.name
            if not target.exists():
                link(path, target)
    print(f"{args.out}: {args.classes} classes, {len(kept['train'])} photos in train, {len(kept['val'])} in val")


if __name__ == "__main__":
    main()
