"""Results as JSON, with the maps of label maps and panoptic segments as PNG files in base64."""

from base64 import b64encode
from typing import Any

from fishnet.images.segment_ids import to_png
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
        values["png"] = b64encode(to_png(result.id_map())).decode()
    elif maps and isinstance(result, Panoptic):
        values["png"] = b64encode(to_png(result.ids)).decode()
    return values
