"""Segmentation data: one module per format, and what they have in common."""
