"""What ``fishnet data check`` says and draws of data with objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fishnet.cli.told import aligned, listed

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.regions.base import RegionSet
    from fishnet.data.regions.check import RegionCheck

CLASSES = 40  # of the table of classes
COUNT, SIDE, COLUMNS = 12, 360, 4  # pictures of the contact sheet, px of each, and in a row
_INK = (30, 34, 42)


def told(data: str, found: "RegionCheck") -> list[str]:
    """The lines for people."""
    parts = found.parts
    head = ["part", "pictures", "corrupt", "repeated", "smallest", "median", "largest", "formats"]
    table = [
        [
            name, f"{part.pictures:,}", f"{len(part.corrupt):,}", f"{part.repeated:,}",
            *("-" if size is None else f"{size[0]}x{size[1]}" for size in (part.smallest, part.median, part.largest)),
            ", ".join(f"{kind} {count:,}" for kind, count in part.kinds.items()) or "-",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    lines = [f"{data}: {sum(part.pictures for part in parts.values()):,} pictures", "", *aligned([head, *table])]

    head = ["part", "objects", "small", "medium", "large", "crowds", "pictures without objects"]
    table = [
        [
            name, f"{part.objects:,}", *(f"{count:,}" for count in part.by_size.values()), f"{part.crowds:,}",
            f"{len(part.without_objects):,}",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    lines += ["", *aligned([head, *table])]

    names = list(next(iter(parts.values())).objects_per_class)
    title = f"{len(names):,} classes, objects in pictures:"
    if len(names) > CLASSES:
        names.sort(key=lambda name: sum(part.objects_per_class.get(name, 0) for part in parts.values()))
        names, title = names[:CLASSES], f"the {CLASSES} rarest of {title}"
    rows = [
        [
            name,
            *(f"{p.objects_per_class.get(name, 0):,} in {p.pictures_per_class.get(name, 0):,}" for p in parts.values()),
        ]
        for name in names
    ]
    lines += ["", title, *aligned([["class", *parts], *rows])]

    for title, wrong in (
        ("corrupt or missing pictures", [line for part in parts.values() for line in part.corrupt]),
        ("annotations", found.annotations),
        ("annotations that could not be read", [line for part in parts.values() for line in part.unreadable]),
        ("pictures of another size than annotated", [line for part in parts.values() for line in part.unlike]),
        ("boxes outside or empty", [line for part in parts.values() for line in part.bad_boxes]),
        (
            "the same picture in two parts",
            [f"{s.first} ({s.parts[0]}) = {s.second} ({s.parts[1]})" for s in found.leaked],
        ),
        ("left out: no annotation", [line for part in parts.values() for line in part.left_out]),
    ):
        lines += listed(title, wrong)
    return [*lines, "", "nothing wrong" if found.ok else "something is wrong: see above"]


def draw_sheet(parts: Mapping[str, "RegionSet"], out: Path) -> int:
    """Draws some pictures of all parts, evenly chosen, with their boxes as annotated; returns how many there are."""
    from fishnet.draw import sheet

    every = [(name, index) for name, pictures in parts.items() for index in range(len(pictures))]
    chosen = every[:: max(1, -(-len(every) // COUNT))]
    cards = [card for name, index in chosen if (card := _card(name, parts[name], index)) is not None]
    if cards:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet(cards, columns=COLUMNS).save(out)
    return len(cards)


def _card(part: str, pictures: "RegionSet", index: int) -> "Image.Image | None":
    from fishnet.data.pictures import as_view, decode_picture
    from fishnet.draw import card, draw_objects
    from fishnet.errors import InputError

    source = pictures.source(index)
    try:
        image = as_view(decode_picture(pictures.encoded(index), pictures.channels, source))
        objects = pictures.objects(index).clean((image.height, image.width))
    except InputError:
        return None
    labels = objects.labels.tolist()
    drawn = draw_objects(image, objects.boxes, [pictures.classes.names[label] for label in labels], labels)
    return card(drawn, [(Path(source).name, part, _INK)], SIDE)
