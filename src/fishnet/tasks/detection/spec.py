"""The numbers that define a detector's head."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from fishnet.data.detection.anchors import Anchors
from fishnet.errors import InputError
from fishnet.tasks.norms import Norm, norm_layer


@dataclass(frozen=True)
class DetectorSpec:
    """All numbers that define a detector's head.

    Attributes:
        width: channels of the FPN and of the heads' convolutions.
        box_width: width of the box head's fully connected layers.
        box_convs: number of 3x3 convolutions before these layers. With convolutions there is one fully connected
            layer, without them there are two.
        mask_width: channels of the mask head.
        norm: ``group``, ``batch`` or ``none``, in FPN and heads.
        anchors: sizes in px and aspect ratios (height / width); None for the published ones.
        proposals: number of proposals per image for the second stage.
        roi_samples: number of these per image that the second stage is trained on.
        max_detections: largest number of detections per image.
        nms_iou: IoU threshold of non-maximum suppression within a class, 0..1.
        score_threshold: detections below this score are dropped, 0..1.
        htc_interleaved, htc_mask_flow, htc_semantic: parts of Hybrid Task Cascade; see
            :mod:`fishnet.tasks.detection.htc`.
        semantic_classes: number of classes of the label maps that the semantic branch of Hybrid Task Cascade is trained
            on; 0: it is trained on the objects' masks, and its classes are the background and the objects' classes.
    """

    width: int = 256
    box_width: int = 1024
    box_convs: int = 0
    mask_width: int = 256
    norm: Norm = "group"
    anchors: Anchors | None = None
    proposals: int = 1000
    roi_samples: int = 512
    max_detections: int = 100
    nms_iou: float = 0.5
    score_threshold: float = 0.05
    htc_interleaved: bool = True
    htc_mask_flow: bool = True
    htc_semantic: bool = True
    semantic_classes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DetectorSpec":
        """The inverse of :meth:`to_dict`. Raises InputError for an unknown key."""
        values = dict(values)
        try:
            if (anchors := values.get("anchors")) is not None:
                values["anchors"] = Anchors(tuple(map(tuple, anchors["sizes"])), tuple(anchors["ratios"]))
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise InputError(f"head_args: {error}") from None

    @property
    def norm_layer(self) -> Callable[[int], nn.Module] | None:
        """Builds a norm from its number of channels; None for no norm."""
        return norm_layer(self.norm)
