"""Recipes and the training engine. Importing this package imports no torch."""
