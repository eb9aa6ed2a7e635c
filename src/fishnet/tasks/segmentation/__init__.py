"""The pixel level: a class for every pixel."""
