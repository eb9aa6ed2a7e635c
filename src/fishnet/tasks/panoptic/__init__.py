"""Panoptic segmentation: every pixel belongs to one thing, to the stuff of one class, or to nothing."""
