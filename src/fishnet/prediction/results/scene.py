"""The results of several heads for one image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.prediction.drawing import draw_labels, label_colour, score_panel
from fishnet.prediction.drawing.colours import PALETTE
from fishnet.prediction.drawing.objects import counted_names, paint_objects, spread_colours
from fishnet.prediction.drawing.text import Entry, enlargement, legend_page
from fishnet.prediction.results.base import Result, upright
from fishnet.prediction.results.classification import Classification
from fishnet.prediction.results.detections import Detections
from fishnet.prediction.results.panoptic import Panoptic
from fishnet.prediction.results.segmentation import Segmentation

PANOPTIC = "panoptic"
"""Key of the merged segments beside those of the heads."""


@dataclass(frozen=True)
class Scene:
    """The results of all heads of a model for one image, from one pass through its trunk.

    ``scene["detect"]`` is the same as ``scene.results["detect"]``.

    Attributes:
        results: each head's result, by head.
        panoptic: the segments that the heads ``instances`` and ``segment`` of a panoptic model make together; None for
            other models.
    """

    results: Mapping[str, Result]
    panoptic: Panoptic | None = None

    def __getitem__(self, head: str) -> Result:
        return self.results[head]

    @property
    def columns(self) -> tuple[str, ...]:
        """``head``, then the columns of all results."""
        return tuple(dict.fromkeys(["head", *(name for result in self.parts().values() for name in result.columns)]))

    def to_dict(self) -> dict[str, Any]:
        """``{head: the head's to_dict()}`` for every head, and ``panoptic`` if there are merged segments."""
        return {name: result.to_dict() for name, result in self.parts().items()}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all results, head by head, each with its ``head``."""
        return [{"head": name, **row} for name, result in self.parts().items() for row in result.rows()]

    def summary(self) -> str:
        """The summaries of all results."""
        return "; ".join(f"{name}: {result.summary()}" for name, result in self.parts().items())

    def draw(self, image: Image.Image) -> Image.Image:
        """One overlay of all results: tinted label maps, over them boxes and masks, and below the image legends and the
        classes of the whole image.

        The classes of different heads have different colours. A second label map covers the first, except where its
        class is called background. Merged segments are drawn instead of the instances and the label map they are from.

        Args:
            image: the image that was predicted, upright or with its EXIF orientation.

        Raises:
            InputError: an image of another size.
        """
        overlay = _Overlay(image, self.results)
        drawn = dict(self.results)
        if self.panoptic is not None:
            highest = max((segment.label for segment in self.panoptic.segments), default=0)
            overlay.add_page(self.panoptic.draw(image), len(PALETTE) + highest + 1)
            drawn = {name: result for name, result in drawn.items() if name not in (INSTANCES, SEGMENT)}
        for kind in (Segmentation, Detections):
            for name, result in drawn.items():
                if isinstance(result, kind):
                    overlay.add(name, result)
        page = overlay.page()
        captions = {name: result for name, result in drawn.items() if isinstance(result, Classification)}
        for name, classes in captions.items():
            title = f"{name}: " if len(captions) > 1 else ""
            page = score_panel(page, [(f"{title}{label}", score) for label, score in classes.bars()])
        return page

    def parts(self) -> dict[str, Result]:
        """The results of all heads by name, and the merged segments as ``panoptic`` if there are any."""
        return {**self.results, **({} if self.panoptic is None else {PANOPTIC: self.panoptic})}


class _Overlay:
    """An image that is drawn on layer by layer, and the legends of the layers.

    Args:
        image: upright or with its EXIF orientation.
        results: those of the image, to compare its size with.
    """

    def __init__(self, image: Image.Image, results: Mapping[str, Result]) -> None:
        for result in results.values():
            if isinstance(result, Segmentation | Detections):
                image = upright(image, result.size)
        self.factor = enlargement(image.size)
        self.image = image.convert("RGB")
        if self.factor > 1:
            size = image.width * self.factor, image.height * self.factor
            self.image = self.image.resize(size, Image.Resampling.NEAREST)
        self.legends: list[Image.Image] = []
        self.colours = 0  # number of colours that are taken

    def add(self, name: str, result: Segmentation | Detections) -> None:
        """Draws a head's result and its legend."""
        if isinstance(result, Segmentation):
            labels = result.labels.repeat(self.factor, 0).repeat(self.factor, 1)
            page = draw_labels(
                self.image, labels, result.classes.names, result.shares, title=name, first_colour=self.colours
            )
        else:
            page = self._with_objects(name, result)
        self.add_page(page, len(result.classes))

    def add_page(self, page: Image.Image, colours: int) -> None:
        """Takes over a page that shows the image, enlarged by the same factor, above a legend.

        Args:
            page: as wide as the enlarged image.
            colours: number of colours that are used on it.
        """
        width, height = self.image.size
        self.image = page.crop((0, 0, width, height))
        self.legends.append(page.crop((0, height, width, page.height)))
        self.colours += colours

    def page(self) -> Image.Image:
        """The image above its legends."""
        page = Image.new("RGB", (self.image.width, self.image.height + sum(legend.height for legend in self.legends)))
        top = 0
        for each in (self.image, *self.legends):
            page.paste(each, (0, top))
            top += each.height
        return page

    def _with_objects(self, name: str, result: Detections) -> Image.Image:
        alike = result.cropped_masks is not None and len(result.classes) == 1  # then neighbours have different colours
        numbers = spread_colours(result.boxes) if alike else result.labels.tolist()
        colours = [label_colour(self.colours + number) for number in numbers]
        image = paint_objects(
            self.image, result.boxes, result.names, colours, result.scores, result.cropped_masks, self.factor
        )
        entries: list[Entry] = counted_names(result.names, colours) or [("no objects", None)]
        page = legend_page(image.size, [(f"{name}:", None), *entries])
        page.paste(image)
        return page
