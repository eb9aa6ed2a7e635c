"""Data with a class for every pixel: one module a format, and what they share."""
