"""Measuring a model on labelled data: `fishnet val`."""
