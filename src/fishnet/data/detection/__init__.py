"""Images with objects: annotations, one module a format, and their way into batches. Imports no torch by itself."""
