"""On-disk formats, pictures and class tables. Importing this package imports no torch."""
