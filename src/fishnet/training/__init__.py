"""The training engine. Importing this package imports no torch."""
