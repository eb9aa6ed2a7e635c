"""The options of prediction, by head. Torch-free."""

from dataclasses import dataclass, field, replace
from math import inf
from numbers import Integral, Real
from typing import Any

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.bundle.panoptic import INSTANCES, PanopticConfig
from fishnet.errors import InputError
from fishnet.tasks.info import task_info

OVERLAP = 0.2
OPTIONS = {
    "k": "Classifiers: number of classes.",
    "threshold": "Detectors, and classifiers with several labels per image: confidence threshold.",
    "max_detections": "Detectors: maximum number of objects.",
    "tile": "Detectors and segmenters: side of square tiles, px of the image.",
    "overlap": "Overlap of neighbouring tiles, as a fraction of the tile.",
    "tta": "Segmenters: average over three scales, each also flipped.",
    "panoptic_score": "Panoptic models: instances with a lower score become no segment.",
    "panoptic_overlap": "Panoptic models: instances covered by better ones beyond this fraction become no segment.",
    "stuff_area": "Panoptic models: stuff with fewer pixels becomes void.",
}
"""What each option means."""

_PASSES = ("tile", "overlap", "tta")  # options of the passes through the network, and not of the results
_PANOPTIC = {"panoptic_score": "score_threshold", "panoptic_overlap": "overlap_threshold", "stuff_area": "stuff_area"}
_RANGES: dict[str, tuple[Any, float, float]] = {
    "k": (Integral, 1, inf),
    "threshold": (Real, 0, 1),
    "max_detections": (Integral, 1, inf),
    "tile": (Integral, 32, inf),
    "overlap": (Real, 0, 0.9),
    "panoptic_score": (Real, 0, 1),
    "panoptic_overlap": (Real, 0, 1),
    "stuff_area": (Integral, 0, inf),
}


def option_names(bundle: Bundle) -> tuple[str, ...]:
    """The names of the options of all heads, and of panoptic merging."""
    names = [name for head in bundle.heads.values() for name in _options_of(head)]
    return tuple(dict.fromkeys([*names, *(_PANOPTIC if bundle.panoptic else ())]))


def _options_of(head: HeadConfig) -> tuple[str, ...]:
    """The names of a head's options: those of its task, and a threshold where images have any number of labels."""
    return (*task_info(head.task).options, *(("threshold",) if head.multi_label else ()))


@dataclass(frozen=True)
class PredictOptions:
    """The options of one prediction.

    Attributes:
        result_options: by head, the options that its result takes.
        tiling: side of the tiles, px, and their overlap; None for no tiles.
        tta: whether to average over scales and mirrored images.
        single_pass: whether even large images go through the network in one pass.
        panoptic: how instances and label maps are merged; None if they are not.
        instance_options: ``threshold`` and ``max_detections`` of the instances of a panoptic model. These limit what is
            returned beside the merged segments; ``result_options`` holds what merging needs.
    """

    result_options: dict[str, dict[str, Any]]
    tiling: tuple[int, float] | None
    tta: bool
    single_pass: bool = False
    panoptic: PanopticConfig | None = None
    instance_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle, options: dict[str, Any]) -> "PredictOptions":
        """Reads options by name; None stands for the default. An option applies to all heads that have it.

        Raises:
            InputError: an option that none of the bundle's heads has or that is out of range.
        """
        known = option_names(bundle)
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in known:
                heads = [
                    head if head == config.task else f"{head} ({config.task})" for head, config in bundle.heads.items()
                ]
                have = "has" if len(heads) == 1 else "have"
                raise InputError(f"{name}: not an option of {' and '.join(heads)}, which {have} {', '.join(known)}")
            _check(name, value)
        if "overlap" in given and "tile" not in given:
            raise InputError("overlap: needs tile, the side of the tiles in px of the image: give tile too")
        tile, overlap, tta = given.pop("tile", None), given.pop("overlap", OVERLAP), given.pop("tta", False)
        parsed = cls(
            {name: _result_options(bundle, name, given) for name in bundle.heads},
            None if tile is None else (tile, overlap),
            tta,
        )
        return parsed if bundle.panoptic is None else parsed._with_panoptic(bundle.panoptic, given)

    def _with_panoptic(self, config: PanopticConfig, given: dict[str, Any]) -> "PredictOptions":
        config = replace(config, **{key: given[name] for name, key in _PANOPTIC.items() if name in given})
        instances = self.result_options[INSTANCES]
        needed = {
            "threshold": min(instances.get("threshold", 0.0), config.score_threshold),
            "mask_threshold": config.mask_threshold,
        }
        result_options = {**self.result_options, INSTANCES: needed}
        return replace(self, result_options=result_options, panoptic=config, instance_options=instances)


def _result_options(bundle: Bundle, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a head's result among those given, and the head's default threshold."""
    head = bundle.heads[name]
    known = [option for option in _options_of(head) if option not in _PASSES]
    options = {option: given[option] for option in given if option in known}
    if "threshold" in known and "score" in head.thresholds:
        options.setdefault("threshold", head.thresholds["score"])
    if head.multi_label:
        options["thresholds"] = head.label_thresholds
    return options


def _check(name: str, value: Any) -> None:
    if name not in _RANGES:
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r}: must be true or false")
        return
    kind, low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        what = "a whole number" if kind is Integral else "a number"
        raise InputError(f"{name}={value!r}: must be {what}, {low} " + (f"to {high}" if high < inf else "or more"))
