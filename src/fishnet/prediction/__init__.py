"""Turns images into results, with any engine. Torch-free."""
