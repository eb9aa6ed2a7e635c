"""From a bundle to a file of another program: written, checked, made smaller."""
