"""Drawing on images. Torch-free."""

from fishnet.prediction.drawing.colours import Colour, colour_of, label_colour
from fishnet.prediction.drawing.labels import draw_labels
from fishnet.prediction.drawing.objects import draw_objects
from fishnet.prediction.drawing.panels import card, score_panel, sheet
from fishnet.prediction.drawing.panoptic import draw_segments
from fishnet.prediction.drawing.text import font

__all__ = [
    "Colour",
    "card",
    "colour_of",
    "draw_labels",
    "draw_objects",
    "draw_segments",
    "font",
    "label_colour",
    "score_panel",
    "sheet",
]
