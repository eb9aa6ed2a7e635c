"""Exports bundles to files of other programs: writes, checks and quantizes them."""
