"""Small segmentation datasets in every format: coloured shapes on noise, which a network can tell apart.

Each maker writes ``count`` images per split, as in ``train=6, val=3``, and returns what a user would name as DATA.
Image ``i`` of a split is ``scene(split_seed(split) + i)``; every fifth one (4, 9, ...) has ground only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

KINDS = ("ground", "berry", "leaf")
COLOURS = ((60, 50, 40), (225, 60, 60), (70, 200, 80))
SIZE = (96, 80)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Scene:
    """An image and its ground truth.

    Attributes:
        image: RGB.
        labels: (height, width) indices into ``KINDS``.
    """

    image: Image.Image
    labels: NDArray[np.uint8]


def scene(seed: int, size: tuple[int, int] = SIZE, shapes: int | None = None) -> Scene:
    """Ground with one to four ellipses (berries) and rectangles (leaves), each in its own quarter of the image."""
    random = np.random.default_rng(seed)
    width, height = size
    photo = Image.fromarray(random.integers(0, 70, (height, width, 3), dtype=np.uint8))
    labels = Image.new("L", size)
    count = int(random.integers(1, 5)) if shapes is None else shapes
    for quarter in random.permutation(4)[:count].tolist():
        room = (width // 2, height // 2)
        w, h = (int(random.integers(side // 2, side - 2)) for side in room)
        x = quarter % 2 * room[0] + int(random.integers(0, room[0] - w))
        y = quarter // 2 * room[1] + int(random.integers(0, room[1] - h))
        kind = int(random.integers(1, 3))
        for image, fill in ((photo, COLOURS[kind]), (labels, kind)):
            draw = ImageDraw.Draw(image)
            (draw.ellipse if KINDS[kind] == "berry" else draw.rectangle)((x, y, x + w - 1, y + h - 1), fill=fill)
    return Scene(photo, np.asarray(labels, np.uint8))


def split_seed(split: str) -> int:
    return 1000 * SPLITS.index(split)


def scenes(split: str, count: int, size: tuple[int, int] = SIZE) -> list[Scene]:
    """The scenes of a split; every fifth has ground only."""
    return [scene(split_seed(split) + i, size, 0 if i % 5 == 4 else None) for i in range(count)]


def save_mask(path: Path, labels: NDArray[Any], form: str, colours: Sequence[tuple[int, int, int]] = COLOURS) -> None:
    """Writes a mask.

    Args:
        path: of the file; its folder is created.
        labels: (height, width) ids; with ``form="colour"`` indices into ``colours``.
        form: ``index`` (L), ``palette`` (P), ``deep`` (16 bits), ``colour`` (RGB), ``array`` (.npy).
        colours: of the classes, also the palette's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "array":
        np.save(path, labels.astype(np.int64))
        return
    if form == "colour":
        image = Image.fromarray(np.asarray(colours, np.uint8)[labels])
    else:
        image = Image.fromarray(labels.astype(np.uint16 if form == "deep" else np.uint8))
    if form == "palette":
        image.putpalette([value for colour in colours for value in colour] + [9] * 3 * (256 - len(colours)))
    image.save(path)


def mask_folder(
    root: Path,
    *,
    layout: str = "splits",
    form: str = "index",
    names: Sequence[str] | None = KINDS,
    ids: Sequence[int] = (0, 1, 2),
    suffix: str = "",
    **counts: int,
) -> Path:
    """``images/`` and ``masks/`` paired by stem, and ``classes.txt``.

    Args:
        root: of the data.
        layout: ``splits`` (SPLIT/images and SPLIT/masks), ``inner`` (images/SPLIT and masks/SPLIT), ``lists``
            (SPLIT.txt beside images and masks), ``whole`` (no splits) or ``camvid`` (SPLIT and SPLIT_labels).
        form: of the masks, see :func:`save_mask`.
        names: of the classes in ``classes.txt``; None writes no such file.
        ids: of ``KINDS`` in the masks; stated in ``classes.txt`` where they do not count from 0.
        suffix: of the masks' stems.
        counts: images per split.
    """
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        images, masks, stem = {
            "splits": (root / split / "images", root / split / "masks", ""),
            "inner": (root / "images" / split, root / "masks" / split, ""),
            "camvid": (root / split, root / f"{split}_labels", ""),
        }.get(layout, (root / "images", root / "masks", f"{split}_"))
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        stems = [f"{stem}{i:03d}" for i in range(count)]
        for name, truth in zip(stems, scenes(split, count), strict=True):
            truth.image.save(images / f"{name}.png")
            labels = truth.labels if form == "colour" else np.asarray(ids)[truth.labels]
            save_mask(masks / f"{name}{suffix}.{'npy' if form == 'array' else 'png'}", labels, form)
        if layout == "lists":
            (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in stems))
    if names is not None:
        (root / "classes.txt").write_text("".join(f"{row}\n" for row in _class_rows(names, ids, form == "colour")))
    return root


def _class_rows(names: Sequence[str], ids: Sequence[int], colours: bool) -> list[str]:
    if colours:
        return ["name,r,g,b", *(f"{name},{r},{g},{b}" for (r, g, b), name in zip(COLOURS, names, strict=False))]
    if list(ids) == list(range(len(ids))):
        return list(names)
    return ["id,name", *(f"{id_},{name}" for id_, name in zip(ids, names, strict=True))]


def voc_folder(root: Path, *, form: str = "palette", masks: str = "SegmentationClass", **counts: int) -> Path:
    """Pascal VOC: JPEGImages, SegmentationClass and lists of names; without lists with ``whole=6``.

    Kinds are the ids 0, 1 and 2 (background, aeroplane and bicycle). The first row of each mask is 255, an ignored
    outline. ``form`` is that of :func:`save_mask`, with VOC's own colours.
    """
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        stems = [f"2007_{split}_{i:03d}" for i in range(count)]
        for stem, truth in zip(stems, scenes("train" if split == "whole" else split, count), strict=True):
            truth.image.save(root / "JPEGImages" / f"{stem}.jpg", quality=95)
            path = root / masks / f"{stem}.{'npy' if form == 'array' else 'png'}"
            save_mask(path, outlined(truth.labels, 255), form, VOC_COLOURS)
        if split != "whole":
            lists = root / "ImageSets" / "Segmentation"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return root


VOC_COLOURS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(1, 1, 1)] * 252, (224, 224, 192)]
"""Of the ids 0, 1, 2 and 255, as VOC's development kit prints them."""


def outlined(labels: NDArray[Any], value: int) -> NDArray[Any]:
    """Labels whose first row is replaced by a value."""
    labels = labels.copy()
    labels[0] = value
    return labels


CITYSCAPES_IDS = (7, 26, 24)  # of KINDS: road, car, person; 4, which is of no class, in the first row
CITYSCAPES_TRAIN_IDS = (0, 13, 11)


def cityscapes_folder(root: Path, *, train_ids: bool = False, **counts: int) -> Path:
    """Cityscapes: leftImg8bit and gtFine, with ids and optionally training ids; masks of the test split are blank."""
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        for i, truth in enumerate(scenes(split, count)):
            city, name = ("ulm", "bochum")[i % 2], f"{('ulm', 'bochum')[i % 2]}_{i:06d}_000019"
            image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            truth.image.save(image)
            masks = root / "gtFine" / split / city
            ids = np.asarray(CITYSCAPES_IDS)[truth.labels] if split != "test" else np.zeros_like(truth.labels, np.int64)
            save_mask(masks / f"{name}_gtFine_labelIds.png", outlined(ids, 4), "index")
            save_mask(masks / f"{name}_gtFine_instanceIds.png", ids * 1000, "deep")
            if train_ids:
                ids = np.asarray(CITYSCAPES_TRAIN_IDS)[truth.labels]
                save_mask(masks / f"{name}_gtFine_labelTrainIds.png", outlined(ids, 255), "index")
    return root


def ade_folder(root: Path, **counts: int) -> Path:
    """ADE20K's scene parsing: kinds are the ids 1, 2 and 3 (wall, building, sky); the first row is 0, no class."""
    for split, count in (counts or {"train": 6, "val": 3}).items():
        name = {"train": "training", "val": "validation"}[split]
        for i, truth in enumerate(scenes(split, count)):
            image = root / "images" / name / f"ADE_{split}_{i + 1:08d}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            truth.image.save(image, quality=95)
            mask = root / "annotations" / name / f"{image.stem}.png"
            save_mask(mask, outlined(truth.labels + 1, 0), "index")
    return root
