"""Nuclei: stardist's example image, cut into quadrants, as a data set; and what Otsu's threshold makes of it.

    pip install --no-deps stardist==0.9.2        # its files are read where they lie, nothing of it is imported
    python benchmarks/nuclei.py write nuclei     # nuclei/{train,val,test}/{images,masks}/*.tif, masks with numbers
    python benchmarks/nuclei.py classes nuclei3  # the same with masks of classes: background, inside, border
    python benchmarks/nuclei.py otsu nuclei
    python benchmarks/nuclei.py foreground nuclei3 predictions/masks

The image has 512 x 512 px (16 bits a pixel, values 0 to 235) and 125 nuclei, numbered in its mask. Three quadrants
are for training, the lower right one is held out for the test. With so little there is no fourth part to choose the
epoch by: val is the training quadrants again, so the kept epoch is simply the one that knows them best.

``otsu`` thresholds the held-out quadrant at the grey value that parts it best (Otsu 1979), takes connected pixels as
one object, and matches them with the nuclei at IoU 0.5 or more: the score to beat, also with the specks removed; and
the IoU of all foreground with all nuclei. ``foreground`` says that IoU of predicted classes.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TEST = (1, 1)  # row and column of the held-out quadrant
SPECK = 20  # px: smaller components are noise, which a person would remove


def folder_of(package: str) -> Path:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: see the head of this file")
    return Path(spec.origin).parent


CLASSES = ("background", "inside", "border")


def classes_of(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbered nuclei as classes: a nucleus's pixels beside another number (of eight neighbours) are its border."""
    around = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    neighbours = [around[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    border = np.any([other != mask for other in neighbours], axis=0)
    return np.where(mask == 0, 0, np.where(border, 2, 1)).astype(np.uint8)


def write(out: Path, classes: bool = False) -> None:
    """Writes the parts."""
    images = folder_of("stardist") / "data" / "images"
    pixels, masks = (np.array(Image.open(images / name)) for name in ("img2d.tif", "mask2d.tif"))
    if classes:
        masks = classes_of(masks)
        out.mkdir(parents=True, exist_ok=True)
        (out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    half = pixels.shape[0] // 2
    for row in (0, 1):
        for column in (0, 1):
            cut = slice(row * half, row * half + half), slice(column * half, column * half + half)
            for split in ("test",) if (row, column) == TEST else ("train", "val"):
                for kind, array in (("images", pixels), ("masks", masks)):
                    path = out / split / kind / f"quadrant-{row}{column}.tif"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array[cut]).save(path)
            numbers, counts = np.unique(masks[cut], return_counts=True)
            what = dict(zip(CLASSES, counts.tolist(), strict=True)) if classes else f"{len(numbers) - 1} nuclei"
            print(f"quadrant {row}{column}: {what}")


def otsu(pixels: NDArray[Any]) -> int:
    """The threshold that makes the variance between the two sides largest."""
    counts = np.bincount(pixels.ravel(), minlength=int(pixels.max()) + 1).astype(float)
    values = np.arange(len(counts))
    below, sums = counts.cumsum(), (counts * values).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nanargmax(between))


def components(wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of connected pixels (four neighbours), 0 elsewhere."""
    labels = np.where(wanted, np.arange(1, wanted.size + 1).reshape(wanted.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        spread = np.where(wanted, np.max(around, axis=0), 0)
        if (spread == labels).all():
            return spread
        labels = spread


def f1(predicted: NDArray[Any], truth: NDArray[Any], iou: float = 0.5) -> float:
    """F1 of objects, matched where their pixels overlap by ``iou`` or more (from a half on one match at most)."""
    predicted_ids, true_ids = (np.unique(labels[labels > 0]) for labels in (predicted, truth))
    hits = 0
    for true_id in true_ids:
        nucleus = truth == true_id
        for predicted_id in np.unique(predicted[nucleus]):
            component = predicted == predicted_id
            if predicted_id and (component & nucleus).sum() >= iou * (component | nucleus).sum():
                hits += 1
    return 2 * hits / max(1, len(predicted_ids) + len(true_ids))


def foreground(predicted: NDArray[Any], truth: NDArray[Any]) -> str:
    """The IoU of what is not 0, and Dice's coefficient of it."""
    common, either = ((predicted > 0) & (truth > 0)).sum(), ((predicted > 0) | (truth > 0)).sum()
    return f"foreground IoU {100 * common / either:.2f} %, Dice {200 * common / (common + either):.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["write", "classes", "otsu", "foreground"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("predicted", type=Path, nargs="?", help="folder of predicted masks")
    args = parser.parse_args()
    if args.what in ("write", "classes"):
        write(args.folder, args.what == "classes")
        return
    if args.what == "foreground":
        for path in sorted((args.folder / "test" / "masks").iterdir()):
            predicted = np.array(Image.open(args.predicted / f"{path.stem}.png"))
            print(f"{path.name}: {foreground(predicted, np.array(Image.open(path)))}")
        return
    for path in sorted((args.folder / "test" / "images").iterdir()):
        pixels = np.array(Image.open(path))
        threshold = otsu(pixels)
        predicted, truth = (
            components(pixels > threshold),
            np.array(Image.open(args.folder / "test" / "masks" / path.name)),
        )
        ids, sizes = np.unique(predicted, return_counts=True)
        larger = predicted * np.isin(predicted, ids[sizes >= SPECK])
        print(
            f"{path.name}: threshold {threshold}, F1@0.5 {f1(predicted, truth):.2f}; without components below "
            f"{SPECK} px {f1(larger, truth):.2f}; {foreground(predicted, truth)}"
        )


if __name__ == "__main__":
    main()
