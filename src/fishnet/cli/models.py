"""Loads the model that a verb was given."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fishnet.runtime.precision import Precision, fallback_line

if TYPE_CHECKING:
    from fishnet.prediction.predictor import Predictor


def load_model(
    source: str, device: str, precision: Precision, *, trust: bool, only: Sequence[str] | None = None
) -> "Predictor":
    """:func:`fishnet.tasks.loading.load`; a precision that the machine does not have is said on standard error."""
    from fishnet.tasks.loading import load

    predictor = load(source, device, trust=trust, only=only, precision=precision)
    engine = getattr(predictor.engine, "engine", predictor.engine)  # that of all heads, if only some are wanted
    by_file = getattr(getattr(engine, "exported", None), "precision", "") == "bf16"
    if line := fallback_line("bf16" if precision == "auto" and by_file else precision, predictor.precision):
        print(f"fishnet: {line}", file=sys.stderr)
    return predictor
