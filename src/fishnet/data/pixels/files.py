"""What formats of picture files with label maps share."""

from fishnet.data.files import FileSet
from fishnet.data.pixels.base import PixelSet


class FilePixels(FileSet, PixelSet):
    """Picture files with a class for every pixel."""
