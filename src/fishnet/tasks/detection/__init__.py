"""The region level: objects, as boxes or as boxes and masks."""
