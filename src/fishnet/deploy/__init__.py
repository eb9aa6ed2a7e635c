"""A model leaves the laboratory: exported files, and a runtime that needs no torch."""
