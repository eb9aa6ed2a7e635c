"""Placeholder."""

from collections.abc import Mapping
from typing import Any

from fishnet.data.findings import Finding


def plausibility(sets: Mapping[str, Any]) -> list[Finding]:
    """Nothing yet."""
    return []
