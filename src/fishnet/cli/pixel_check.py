"""What ``fishnet data check`` says and draws of data with a class for every pixel."""

from typing import TYPE_CHECKING

from fishnet.cli.check_tables import classes_told, gathered, leaks, pictures_told, wrong_told
from fishnet.cli.told import aligned
from fishnet.draw.text import percent

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.pixels.base import PixelSet
    from fishnet.data.pixels.check import PixelCheck, PixelPart


def told(data: str, found: "PixelCheck") -> list[str]:
    """The lines for people."""
    parts = found.parts
    head = ["part", "pixels", "ignored", "classes", "pictures ignored altogether"]
    table = [
        [
            name, f"{part.pixels:,}", percent(part.ignored / max(1, part.pixels), 2),
            f"{sum(map(bool, part.pixels_per_class.values())):,} of {len(part.pixels_per_class):,}",
            f"{len(part.all_ignored):,}",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    unnamed = [
        f"{one.value}: {one.pixels:,} px in {len(one.masks):,} masks of {name}, first {one.masks[0]}"
        for name, part in parts.items()
        for one in part.unnamed
    ]
    untrained = [
        f"{one}: {part.pixels_per_class[one]:,} px in {part.pictures_per_class[one]:,} pictures of {name}"
        for name, part in parts.items()
        for one in found.untrained
        if part.pixels_per_class[one]
    ]
    lists = (
        ("corrupt or missing pictures", gathered(parts, "corrupt")),
        ("annotations", found.annotations),
        ("masks that could not be read", gathered(parts, "unreadable")),
        ("masks of another size than their picture", gathered(parts, "unlike")),
        ("ids or colours without a name", unnamed),
        ("pictures without a mask, masks without a picture", gathered(parts, "left_out")),
        ("classes that no picture of train has", untrained),
        ("the same picture in two parts", leaks(found.leaked)),
        ("pictures ignored altogether", gathered(parts, "all_ignored")),
    )
    return [
        *pictures_told(data, parts),
        "",
        *aligned([head, *table]),
        *classes_told(
            ", share of the pixels that are not ignored, and pictures with any",
            parts,
            list(next(iter(parts.values())).pixels_per_class),
            lambda part, name: part.pixels_per_class[name],
            _class,
        ),
        *wrong_told(found.ok, lists),
    ]


def _class(part: "PixelPart", name: str) -> str:
    share = part.pixels_per_class[name] / max(1, sum(part.pixels_per_class.values()))
    return f"{percent(share, 2)} in {part.pictures_per_class[name]:,}"


def draw(pictures: "PixelSet", index: int) -> "Image.Image":
    """A picture tinted by its label map. Raises InputError where either cannot be read."""
    from fishnet.data.pictures import as_view
    from fishnet.draw import draw_labels

    picture, labels = pictures.read(index)
    return draw_labels(as_view(picture), labels, pictures.classes.names)
