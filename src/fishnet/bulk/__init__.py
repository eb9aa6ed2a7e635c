"""Predictions by the million: as columns, for engines that distribute the work. Imports no torch."""
