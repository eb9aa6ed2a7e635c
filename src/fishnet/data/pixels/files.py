"""What formats of picture files with label maps share."""

from fishnet.data.files import FileSet
from fishnet.data.pixels.base import PixelSet


class FilePixels(FileSet, PixelSet):
    """Picture files with a class for every pixel."""

    def unnamed(self, index: int) -> dict[int, int]:
        """The numbers (or colours, as 0xRRGGBB) in the annotation that nothing is known of, and the pixels of each.

        Raises:
            InputError: it cannot be read.
        """
        return {}
