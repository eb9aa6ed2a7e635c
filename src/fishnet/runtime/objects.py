"""A detector's outputs of an exported file, checked, as one dict of arrays for each image. Torch-free."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError, NotFiniteError
from fishnet.files.numbers import is_finite
from fishnet.runtime.decode import decode, is_raw

Arrays = Mapping[str, NDArray[Any]]


def objects_of(
    outputs: Arrays, config: HeadConfig, size: tuple[int, int], images: int | None, where: str
) -> list[dict[str, NDArray[Any]]]:
    """The objects of each image of a batch, as :meth:`fishnet.prediction.results.Detections.from_raw` takes them.

    Args:
        outputs: of the graph, by name, in one of the three forms of
            :attr:`~fishnet.runtime.exported.Exported.outputs`.
        config: of the head.
        size: height and width of the input, px.
        images: number of images, if the outputs have an axis for them; None for those of a single image.
        where: the start of messages.

    Raises:
        InputError: outputs that disagree with each other, with the number of images or with the head's classes.
        NotFiniteError: scores or boxes, or raw outputs, are not finite. It names no head.
    """
    if is_raw(tuple(outputs)):
        if not is_finite(outputs):
            raise NotFiniteError
        return [decode({name: values[0] for name, values in outputs.items()}, config, size)]
    counts = {values.shape[: 1 if images is None else 2] for values in outputs.values()}
    if len(counts) > 1:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in outputs.items())
        raise InputError(f"{where}returns different numbers of objects: {shapes}")
    if images is None:
        found = [dict(outputs)]
    else:
        if next(iter(counts))[0] != images:
            raise InputError(f"{where}returns objects of {next(iter(counts))[0]} images for {images}")
        if not is_finite(outputs):  # a score that is not a number is neither 0 nor above
            raise NotFiniteError
        scores = outputs["scores"]
        found = [{name: values[i][scores[i] > 0] for name, values in outputs.items()} for i in range(images)]
    for labels in (each["labels"] for each in found):
        if labels.size and not 0 <= labels.min() <= labels.max() < len(config.classes):
            raise InputError(
                f"{where}returns labels from {labels.min()} to {labels.max()}, but its description has "
                f"{len(config.classes)} classes: altered, or not written by fishnet export"
            )
    return found
