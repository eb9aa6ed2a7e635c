"""The base class of segmentation datasets of image files."""

import warnings

from fishnet.data.files import FileDataset
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.files.reading import open_regular
from fishnet.images.opening import open_image, orientation


class FileSegmentation(FileDataset, SegmentationDataset):
    """A segmentation dataset of image files: each entry has a ``path``."""

    def _mismatch_advice(self, index: int, mask: tuple[int, ...]) -> str:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`. Reads the image's header."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = self.entries[index].path
                with open_regular(path, "image") as file, open_image(file, self.reading.max_pixels) as image:
                    stored_size, turn = (image.height, image.width), orientation(image)
        except (OSError, ValueError, SyntaxError):
            return super()._mismatch_advice(index, mask)
        if turn == 1 or stored_size != tuple(mask):
            return super()._mismatch_advice(index, mask)
        return (
            f"the mask fits the image as stored, but the image's EXIF orientation ({turn}) turns it upright: turn the "
            "mask as well, or, if the stored image is upright, remove the orientation (exiftool -Orientation= FILE)"
        )
