"""What ``fishnet data check`` says and draws of data with objects."""

from typing import TYPE_CHECKING

from fishnet.cli.check_tables import classes_told, gathered, leaks, pictures_told, wrong_told
from fishnet.cli.told import aligned

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.regions.base import RegionSet
    from fishnet.data.regions.check import RegionCheck


def told(data: str, found: "RegionCheck") -> list[str]:
    """The lines for people."""
    parts = found.parts
    head = ["part", "objects", "small", "medium", "large", "crowds", "pictures without objects"]
    table = [
        [
            name, f"{part.objects:,}", *(f"{count:,}" for count in part.by_size.values()), f"{part.crowds:,}",
            f"{len(part.without_objects):,}",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    lists = (
        ("corrupt or missing pictures", gathered(parts, "corrupt")),
        ("annotations", found.annotations),
        ("annotations that could not be read", gathered(parts, "unreadable")),
        ("pictures of another size than annotated", gathered(parts, "unlike")),
        ("boxes outside or empty", gathered(parts, "bad_boxes")),
        ("the same picture in two parts", leaks(found.leaked)),
        ("left out: no annotation", gathered(parts, "left_out")),
    )
    return [
        *pictures_told(data, parts),
        "",
        *aligned([head, *table]),
        *classes_told(
            ", objects in pictures",
            parts,
            list(next(iter(parts.values())).objects_per_class),
            lambda part, name: part.objects_per_class.get(name, 0),
            lambda part, name: f"{part.objects_per_class.get(name, 0):,} in {part.pictures_per_class.get(name, 0):,}",
        ),
        *wrong_told(found.ok, lists),
    ]


def draw(pictures: "RegionSet", index: int) -> "Image.Image":
    """A picture with its boxes as annotated. Raises InputError where either cannot be read."""
    from fishnet.data.pictures import as_view, decode_picture
    from fishnet.draw import draw_objects

    image = as_view(decode_picture(pictures.encoded(index), pictures.channels, pictures.source(index)))
    objects = pictures.objects(index).clean((image.height, image.width))
    labels = objects.labels.tolist()
    return draw_objects(image, objects.boxes, [pictures.classes.names[label] for label in labels], labels)
