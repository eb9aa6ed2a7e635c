"""Draws the segments of panoptic segmentation on images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.text import percent
from fishnet.images.segment_ids import dense_ids
from fishnet.prediction.drawing.colours import PALETTE, colour_of, label_colour
from fishnet.prediction.drawing.labels import tint
from fishnet.prediction.drawing.objects import MAX_LABELLED, counted_names, spread_colours, write_labels
from fishnet.prediction.drawing.text import Entry, enlargement, legend_page

if TYPE_CHECKING:
    from fishnet.prediction.results import Segment

_THINGS, _STUFF = 0.55, 0.35  # opacity of the colours


def draw_segments(image: Image.Image, ids: NDArray[np.integer], segments: Sequence["Segment"]) -> Image.Image:
    """Tints the image, in grey, by its segments, above a legend.

    Each thing has an outline and another colour than its neighbours, and up to 25 things are labelled where there is
    room. Stuff has the colour of its class, which no thing has. Void keeps the image's colour. The legend counts the
    things by name and shows the shares of the stuff and of void. Small images are enlarged by repeating pixels.

    Args:
        image: as large as the map.
        ids: (height, width) segment ids, 0 for void.
        segments: all segments of the map.

    Raises:
        InputError: map and image differ in size, or pixels have an id that no segment has.
    """
    if image.size != ids.shape[::-1]:
        raise InputError(
            f"segments of {ids.shape[1]}x{ids.shape[0]} px cannot be drawn on an image of "
            f"{image.width}x{image.height} px"
        )
    image, factor = image.convert("RGB"), enlargement(image.size)
    numbers = dense_ids(ids, [segment.id for segment in segments])
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        numbers = numbers.repeat(factor, 0).repeat(factor, 1)
    things = [i for i, segment in enumerate(segments) if segment.is_thing]
    boxes = np.array([segments[i].box for i in things], np.float64).reshape(-1, 4) * factor
    thing_colours = [colour_of(number) for number in spread_colours(boxes)]
    colours = np.zeros((len(segments) + 1, 3), np.float32)
    cover = np.zeros(len(segments) + 1, np.float32)
    for i, segment in enumerate(segments, 1):
        if not segment.is_thing:
            colours[i], cover[i] = _stuff_colour(segment), _STUFF
    for i, colour in zip(things, thing_colours, strict=True):
        colours[i + 1], cover[i + 1] = colour, _THINGS
    names = [segments[i].name for i in things]
    counts: list[Entry] = [(text, None) for text, _ in counted_names(names, thing_colours)]  # colours are not of names
    legend = [*counts, *_stuff_entries(segments, ids.size)]
    page = legend_page(image.size, legend or [("no segments", None)])
    tint(image, numbers, colours, cover, page, np.array([False, *(segment.is_thing for segment in segments)]))
    if len(things) <= MAX_LABELLED:
        drawn = page.crop((0, 0, *image.size))
        write_labels(drawn, boxes, [_text(segments[i]) for i in things], thing_colours)
        page.paste(drawn)
    return page


def _text(segment: "Segment") -> str:
    return segment.name if segment.score is None else f"{segment.name} {segment.score:.2f}"


def _stuff_colour(segment: "Segment") -> tuple[int, int, int]:
    return label_colour(len(PALETTE) + segment.label)  # the palette belongs to the things


def _stuff_entries(segments: Sequence["Segment"], pixels: int) -> list[Entry]:
    """Legend entries of the stuff with its shares of the image, the largest first, and of void."""
    stuff = sorted((segment for segment in segments if not segment.is_thing), key=lambda segment: -segment.area)
    entries: list[Entry] = [(f"{one.name}  {percent(one.area / pixels)}", _stuff_colour(one)) for one in stuff]
    void = pixels - sum(segment.area for segment in segments)
    return [*entries, (f"void  {percent(void / pixels)}", None)] if void else entries
