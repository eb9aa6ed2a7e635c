"""Drawing on pictures. Torch-free."""

from fishnet.draw.colours import Colour, colour_of, label_colour
from fishnet.draw.labels import draw_labels
from fishnet.draw.objects import draw_objects
from fishnet.draw.panels import card, score_panel, sheet
from fishnet.draw.text import font

__all__ = ["Colour", "card", "colour_of", "draw_labels", "draw_objects", "font", "label_colour", "score_panel", "sheet"]
