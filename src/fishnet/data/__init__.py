"""On-disk formats, images and class tables. Importing this package imports no torch."""
