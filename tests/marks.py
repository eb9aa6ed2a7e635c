"""Marks of single cases of a parametrised test."""

from typing import Any

import pytest


def slow(*values: object) -> Any:
    """A case that takes many seconds, or whose like is tested by a fast one: left out by `make test`."""
    return pytest.param(*values, marks=pytest.mark.slow)
