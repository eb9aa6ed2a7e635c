"""Panoptic data: every pixel belongs to a segment, which is one thing or the stuff of one class."""
