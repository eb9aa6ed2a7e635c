"""Images with one label each: one module a format."""
