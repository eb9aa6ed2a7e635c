"""Checks that arrays hold finite numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_finite(values: NDArray[Any] | Mapping[str, NDArray[Any]]) -> bool:
    """Whether an array, or each one in a dict, holds neither NaN nor infinity. Makes no copy."""
    if isinstance(values, Mapping):
        return all(map(is_finite, values.values()))
    if values.dtype.kind != "f" or not values.size:
        return True
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))
