"""Images for an export: some to compare the file with the bundle on, and more to calibrate int8 on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.data.base import ImageDataset
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike, size_of
from fishnet.prediction.inputs import cut, load_image, prepare_input
from fishnet.prediction.sources import Source
from fishnet.prediction.tiling import tiles
from fishnet.tasks.base import Splits

MAX_IMAGES = 8  # maximum number of images to compare on


def images_to_compare(
    bundle: Bundle, names: Sequence[str], data: str | None, splits: Splits | None, log: Callable[[str], None]
) -> list[Source]:
    """Returns images to compare a file with its bundle on. Reads each once, so that a bad one is an early error.

    Args:
        bundle: the bundle.
        names: files, folders or patterns.
        data: the name of the data, for messages.
        splits: the data, which is used if there are no names; without it a photo that comes with matplotlib is used.
        log: is called with a line if the photo is used.

    Raises:
        InputError: an image cannot be read, or there is none.
    """
    from fishnet.images.video import is_video
    from fishnet.prediction.sources import find_sources

    if names:
        files = [file for file in find_sources(names) if not is_video(file)]
        if not files:
            raise InputError("images: there are only videos: name some images")
        return [_file_or_tile(bundle, Path(file)) for file in _spread(files, MAX_IMAGES)]
    if splits is not None:
        return _images_of_data(bundle, data or "", splits)
    photo = _photo(bundle)
    log("compared on a photo that comes with matplotlib: to compare on your own images, give images")
    return [_file_or_tile(bundle, photo)]


def _images_of_data(bundle: Bundle, data: str, splits: Splits) -> list[Source]:
    dataset: ImageDataset = splits.get("val") or splits.get("test") or next(iter(splits.values()))
    images, broken = list[Source](), ""
    for index in _spread(range(len(dataset)), MAX_IMAGES):
        try:
            images.append(_image_or_tile(bundle, dataset.read(index)[0]))
        except InputError as error:  # left out, as in validation
            broken = str(error)
    if not images:
        raise InputError(f"{data}: nothing to compare on: {broken}")
    return images


def _file_or_tile(bundle: Bundle, file: Path) -> Source:
    """Returns an image file, or a tile of it if it is predicted in tiles. Raises InputError if it cannot be read."""
    image = load_image(file, bundle.preprocess)
    tile = _image_or_tile(bundle, image)
    return file if tile is image else tile


def _image_or_tile(bundle: Bundle, image: ImageLike) -> ImageLike:
    """Returns an image, or its middle tile if it is predicted in tiles."""
    from fishnet.prediction.passes import default_tiling

    size = size_of(image)
    tiling = default_tiling(bundle, size)
    if tiling is None:
        return image
    places = tiles(*size, *tiling)
    return cut(image, places[len(places) // 2])


def _photo(bundle: Bundle) -> Path:
    spec = find_spec("matplotlib")
    file = Path(spec.origin or "").parent / "mpl-data" / "sample_data" / "grace_hopper.jpg" if spec else Path()
    if bundle.preprocess.channels not in (1, 3) or not file.is_file():
        raise InputError("nothing to compare the export on: give images")
    return file


def _spread(items: Sequence[Any], max_count: int) -> list[Any]:
    """Returns some items, evenly spaced."""
    count = min(len(items), max_count)
    return [items[i * len(items) // count] for i in range(count)]


@dataclass(frozen=True)
class CalibrationImages:
    """Images to calibrate int8 on.

    Attributes:
        bundle: its preprocessing is applied.
        dataset: the images.
        indices: those to use.
    """

    bundle: Bundle
    dataset: ImageDataset
    indices: list[int]

    @classmethod
    def of(cls, bundle: Bundle, splits: Splits, count: int) -> "CalibrationImages":
        """Chooses images of the training split, or of the first one if there is none."""
        dataset: ImageDataset = splits.get("train") or next(iter(splits.values()))
        return cls(bundle, dataset, _spread(range(len(dataset)), count))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yields arrays of shape (1, channels, height, width). Images that cannot be read are left out."""
        preprocess = self.bundle.preprocess
        for index in self.indices:
            try:
                image = _image_or_tile(self.bundle, self.dataset.read(index)[0])
            except InputError:
                continue
            yield preprocess.normalize(prepare_input(preprocess, image).pixels[None])
