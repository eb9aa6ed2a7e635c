"""What ``fishnet data check`` prints and draws of data with a class for every pixel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fishnet.cli.check_tables import aligned, classes_table, images_table
from fishnet.prediction.drawing.text import percent

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.segmentation.base import SegmentationDataset
    from fishnet.data.segmentation.check import SegmentationSplit


def tables(data: str, parts: "Mapping[str, SegmentationSplit]") -> list[str]:
    """The lines for people."""
    head = ["split", "pixels", "ignored", "classes", "images ignored altogether"]
    table = [
        [
            name, f"{part.pixels:,}", percent(part.ignored / max(1, part.pixels), 2),
            f"{sum(map(bool, part.pixels_per_class.values())):,} of {len(part.pixels_per_class):,}",
            f"{part.all_ignored:,}",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    return [
        *images_table(data, parts),
        "",
        *aligned([head, *table]),
        *classes_table(
            ", share of the pixels that are not ignored, and images with any",
            parts,
            list(next(iter(parts.values())).pixels_per_class),
            lambda part, name: part.pixels_per_class[name],
            _class,
        ),
    ]


def _class(part: "SegmentationSplit", name: str) -> str:
    share = part.pixels_per_class[name] / max(1, sum(part.pixels_per_class.values()))
    return f"{percent(share, 2)} in {part.images_per_class[name]:,}"


def draw(images: "SegmentationDataset", index: int) -> "Image.Image":
    """An image tinted by its label map. Raises InputError where either cannot be read."""
    from fishnet.images.decoding import as_view
    from fishnet.prediction.drawing import draw_labels

    image, labels = images.read(index)
    return draw_labels(as_view(image), labels, images.classes.names)
