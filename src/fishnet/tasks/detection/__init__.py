"""Detection and instance segmentation: objects as boxes, or as boxes and masks."""
