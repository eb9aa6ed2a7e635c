"""Brain regions: a head MRI and the AAL atlas on its grid, as axial slices of seven classes; what grey values say.

    apt-get install mricron-data                 # ch2.nii.gz, aal.nii.gz and the regions' names, read where they lie
    python benchmarks/brain.py write brain       # brain/{train,val,test}/{images,masks}/*.png and brain/classes.txt
    python benchmarks/brain.py lookup brain

One brain (Colin Holmes's, averaged from 27 scans), 181 x 217 x 181 voxels of 1 mm; the atlas's 116 regions
(Tzourio-Mazoyer et al., NeuroImage 2002) are grouped by their names. A contiguous slab of 24 slices is held out for
the test and two of four for validation, with two slices left out on either side of each, since neighbours look alike.

``lookup`` knows of each grey value which class it is most often in the training slices: what a segmenter that looks at
nothing but one pixel could reach.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TEMPLATES = Path("/usr/share/mricron/templates")
SHAPE, HEADER = (181, 217, 181), 352  # voxels in Fortran order behind a header of so many bytes
GROUPS = {
    "frontal": (
        "Precentral", "Frontal", "Rolandic", "Supp_Motor", "Olfactory", "Rectus", "Paracentral",
    ),
    "parietal": ("Postcentral", "Parietal", "SupraMarginal", "Angular", "Precuneus"),
    "temporal": ("Heschl", "Temporal", "Fusiform"),
    "occipital": ("Calcarine", "Cuneus", "Lingual", "Occipital"),
    "deep": (
        "Insula", "Cingulum", "Hippocampus", "ParaHippocampal", "Amygdala", "Caudate", "Putamen", "Pallidum",
        "Thalamus",
    ),
    "cerebellum": ("Cerebelum", "Vermis"),
}  # fmt: skip
CLASSES = ("background", *GROUPS)
SLICES = range(10, 156)  # in which the atlas has regions
SLABS = (("test", range(66, 90)), ("val", range(44, 48)), ("val", range(112, 116)))  # held out
APART = 2  # slices between them and the training's, in no part


def volume(name: str) -> NDArray[np.uint8]:
    """A volume of 8 bits: (left to right, back to front, bottom to top)."""
    path = TEMPLATES / name
    if not path.is_file():
        raise SystemExit(f"{path}: not there: apt-get install mricron-data")
    raw = gzip.decompress(path.read_bytes())
    return np.frombuffer(raw, np.uint8, int(np.prod(SHAPE)), HEADER).reshape(SHAPE, order="F")


def grouped() -> NDArray[np.uint8]:
    """(117,) the class of each of the atlas's numbers."""
    table = np.zeros(117, np.uint8)
    for line in filter(str.strip, (TEMPLATES / "aal.nii.txt").read_text().splitlines()):
        number, name = line.split()[:2]
        fitting = [k for k, words in enumerate(GROUPS.values(), 1) if name.startswith(words)]
        assert len(fitting) == 1, name
        table[int(number)] = fitting[0]
    return table


def split_of(z: int) -> str | None:
    """Where a slice goes; None for one beside a held-out slab."""
    for name, slab in SLABS:
        if z in slab:
            return name
        if slab.start - APART <= z < slab.stop + APART:
            return None
    return "train"


def write(out: Path) -> None:
    """Writes the parts, front of the head up."""
    head, atlas = volume("ch2.nii.gz"), grouped()[volume("aal.nii.gz")]
    counts: dict[str, NDArray[np.int64]] = {}
    slices: dict[str, int] = {}
    for z in SLICES:
        split = split_of(z)
        if split is None:
            continue
        for kind, array in (("images", head), ("masks", atlas)):
            path = out / split / kind / f"z{z:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(array[:, ::-1, z].T)).save(path)
        slices[split] = slices.get(split, 0) + 1
        counts[split] = counts.get(split, 0) + np.bincount(atlas[:, :, z].ravel(), minlength=len(CLASSES))
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for split, found in counts.items():
        shares = ", ".join(f"{name} {100 * n / found.sum():.1f} %" for name, n in zip(CLASSES, found, strict=True))
        print(f"{split}: {slices[split]} slices: {shares}")


def read(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grey values and classes of all pixels of a part."""
    names = sorted(path.name for path in (folder / split / "images").iterdir())
    grey, labels = (
        np.concatenate([np.asarray(Image.open(folder / split / kind / name)).ravel() for name in names])
        for kind in ("images", "masks")
    )
    return grey, labels


def lookup(folder: Path) -> None:
    """Prints the IoU of each class, by grey value alone."""
    count = len(CLASSES)
    grey, labels = read(folder, "train")
    table = np.bincount(grey.astype(np.int64) * count + labels, minlength=256 * count).reshape(256, count).argmax(1)
    grey, labels = read(folder, "test")
    cells = np.bincount(labels.astype(np.int64) * count + table[grey], minlength=count**2).reshape(count, count)
    right = np.diag(cells)
    ious = right / np.maximum(cells.sum(0) + cells.sum(1) - right, 1)
    for name, iou in zip(CLASSES, ious, strict=True):
        print(f"{name:<12} IoU {100 * iou:6.2f} %")
    print(f"{'mean':<12} IoU {100 * ious.mean():6.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["write", "lookup"])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    (write if args.what == "write" else lookup)(args.folder)


if __name__ == "__main__":
    main()
