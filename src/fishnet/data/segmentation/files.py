"""What formats of image files with label maps share."""

import warnings

from fishnet.data.files import FileDataset
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.files.reading import open_regular
from fishnet.images.opening import open_image, orientation


class FileSegmentation(FileDataset, SegmentationDataset):
    """Image files with a class for every pixel."""

    def turned(self, index: int, mask: tuple[int, ...]) -> str:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`; the image's header is read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = self.entries[index].path
                with open_regular(path, "image") as file, open_image(file, self.reading.max_pixels) as image:
                    stored, turn = (image.height, image.width), orientation(image)
        except (OSError, ValueError, SyntaxError):
            return super().turned(index, mask)
        if turn == 1 or stored != tuple(mask):
            return super().turned(index, mask)
        return (
            f": the mask fits the image as it is stored, which its EXIF orientation ({turn}) turns upright: turn the "
            "mask as well, or if the stored image is upright remove the orientation (exiftool -Orientation= FILE)"
        )
