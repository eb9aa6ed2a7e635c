"""Results as JSON, with the maps of label maps and panoptic segments as PNG files in base64."""

import io
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.images.segment_ids import ids_to_rgb
from fishnet.prediction.results import Panoptic, Result, Scene, Segmentation


def to_json(result: Result, maps: bool) -> dict[str, Any]:
    """A result's ``to_dict()``; for several heads one by head.

    Args:
        result: any result.
        maps: whether to add the key ``png``: a PNG file in base64. The id of a pixel is R + 256 G + 65536 B, that of
            its class for label maps, and that of its segment for panoptic segments, 0 for none.
    """
    if isinstance(result, Scene):
        return {name: to_json(part, maps) for name, part in result.parts().items()}
    values = result.to_dict()
    if maps and isinstance(result, Segmentation):
        values["png"] = _png(np.asarray(result.classes.ids, np.int64)[result.labels])
    elif maps and isinstance(result, Panoptic):
        values["png"] = _png(result.ids)
    return values


def _png(ids: NDArray[Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(ids_to_rgb(ids)).save(file, "PNG", compress_level=1)
    return b64encode(file.getvalue()).decode()
