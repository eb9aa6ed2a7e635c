"""The same results on every device."""
