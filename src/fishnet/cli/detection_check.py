"""What ``fishnet data check`` prints and draws of data with objects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fishnet.cli.check_tables import aligned, classes_table, images_table

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.detection.base import DetectionDataset
    from fishnet.data.detection.check import DetectionSplit


def tables(data: str, parts: "Mapping[str, DetectionSplit]") -> list[str]:
    """The lines for people."""
    head = ["split", "objects", "small", "medium", "large", "crowds", "images without objects"]
    table = [
        [
            name, f"{part.objects:,}", *(f"{count:,}" for count in part.by_size.values()), f"{part.crowds:,}",
            f"{part.without_objects:,}",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    return [
        *images_table(data, parts),
        "",
        *aligned([head, *table]),
        *classes_table(
            ", objects in images",
            parts,
            list(next(iter(parts.values())).objects_per_class),
            lambda part, name: part.objects_per_class.get(name, 0),
            lambda part, name: f"{part.objects_per_class.get(name, 0):,} in {part.images_per_class.get(name, 0):,}",
        ),
    ]


def draw(images: "DetectionDataset", index: int) -> "Image.Image":
    """An image with its boxes as annotated. Raises InputError where either cannot be read."""
    from fishnet.images.decoding import as_view, decode_image
    from fishnet.prediction.drawing import draw_objects

    image = as_view(decode_image(images.encoded(index), images.channels, images.source(index)))
    objects = images.objects(index).clean((image.height, image.width))
    labels = objects.labels.tolist()
    return draw_objects(image, objects.boxes, [images.classes.names[label] for label in labels], labels)
