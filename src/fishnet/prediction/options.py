"""What prediction can be told, by task. Torch-free."""

from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.tasks.info import task_info

OVERLAP = 0.2
_NUMBERS: dict[str, tuple[Any, float, float]] = {
    "k": (Integral, 1, inf),
    "threshold": (Real, 0, 1),
    "max_detections": (Integral, 1, inf),
    "tile": (Integral, 32, inf),
    "overlap": (Real, 0, 0.9),
}


@dataclass(frozen=True)
class PredictOptions:
    """What was asked for beside the images.

    Attributes:
        result: the options of the task's result.
        tiling: the tiles' size, px, and overlap, where there are to be any.
        tta: whether to average over scales and mirrored images.
        whole: never to tile where no tiling was asked for.
    """

    result: dict[str, Any]
    tiling: tuple[int, float] | None
    tta: bool
    whole: bool = False

    @classmethod
    def of(cls, bundle: Bundle, options: dict[str, Any]) -> "PredictOptions":
        """Options by name; None for the task's own value.

        Raises:
            InputError: an option that the bundle's task does not have, or of another range.
        """
        known = task_info(bundle.task).options
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in known:
                raise InputError(f"{name}: no option of {bundle.task}, which has {', '.join(known)}")
            _check(name, value)
        if "overlap" in given and "tile" not in given:
            raise InputError("overlap is of tiles: give tile too, their side in px of the image")
        tile, overlap, tta = given.pop("tile", None), given.pop("overlap", OVERLAP), given.pop("tta", False)
        if "threshold" in known and "score" in bundle.thresholds:
            given.setdefault("threshold", bundle.thresholds["score"])
        return cls(given, None if tile is None else (tile, overlap), tta)


def _check(name: str, value: Any) -> None:
    if name not in _NUMBERS:
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r}: must be true or false")
        return
    kind, least, most = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        what = "a whole number" if kind is Integral else "a number"
        raise InputError(f"{name}={value!r}: must be {what}, {least} " + (f"to {most}" if most < inf else "or more"))
