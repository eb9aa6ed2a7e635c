"""The options of prediction, by task. Torch-free."""

from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.tasks.info import task_info

OVERLAP = 0.2
_RANGES: dict[str, tuple[Any, float, float]] = {
    "k": (Integral, 1, inf),
    "threshold": (Real, 0, 1),
    "max_detections": (Integral, 1, inf),
    "tile": (Integral, 32, inf),
    "overlap": (Real, 0, 0.9),
}


@dataclass(frozen=True)
class PredictOptions:
    """The options of one prediction.

    Attributes:
        result_options: the options that the task's result takes.
        tiling: side of the tiles, px, and their overlap; None for no tiles.
        tta: whether to average over scales and mirrored images.
        single_pass: whether even large images go through the network in one pass.
    """

    result_options: dict[str, Any]
    tiling: tuple[int, float] | None
    tta: bool
    single_pass: bool = False

    @classmethod
    def of(cls, bundle: Bundle, options: dict[str, Any]) -> "PredictOptions":
        """Reads options by name; None stands for the default.

        Raises:
            InputError: an option that the bundle's task does not have or that is out of range.
        """
        known = task_info(bundle.task).options
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in known:
                raise InputError(f"{name}: not an option of {bundle.task}, which has {', '.join(known)}")
            _check(name, value)
        if "overlap" in given and "tile" not in given:
            raise InputError("overlap: needs tile, the side of the tiles in px of the image: give tile too")
        tile, overlap, tta = given.pop("tile", None), given.pop("overlap", OVERLAP), given.pop("tta", False)
        if "threshold" in known and "score" in bundle.thresholds:
            given.setdefault("threshold", bundle.thresholds["score"])
        return cls(given, None if tile is None else (tile, overlap), tta)


def _check(name: str, value: Any) -> None:
    if name not in _RANGES:
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r}: must be true or false")
        return
    kind, low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        what = "a whole number" if kind is Integral else "a number"
        raise InputError(f"{name}={value!r}: must be {what}, {low} " + (f"to {high}" if high < inf else "or more"))
