"""What formats of picture files with label maps share."""

import warnings

from PIL import ExifTags, Image

from fishnet.data.files import FileSet
from fishnet.data.pixels.base import PixelSet


class FilePixels(FileSet, PixelSet):
    """Picture files with a class for every pixel."""

    def turned(self, index: int, mask: tuple[int, ...]) -> str:
        """See :class:`~fishnet.data.pixels.base.PixelSet`; the image's header is read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(self.entries[index].path) as image:
                    stored, turn = (image.height, image.width), image.getexif().get(ExifTags.Base.Orientation, 1)
        except (OSError, ValueError, SyntaxError):
            return super().turned(index, mask)
        if turn == 1 or stored != tuple(mask):
            return super().turned(index, mask)
        return (
            f": the mask fits the image as it is stored, which its EXIF orientation ({turn}) turns upright: turn the "
            "mask as well, or if the stored image is upright remove the orientation (exiftool -Orientation= FILE)"
        )
