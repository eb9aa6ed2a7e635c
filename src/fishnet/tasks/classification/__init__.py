"""The image level: one label for each image."""
