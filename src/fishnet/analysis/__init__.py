"""Cost and speed of networks."""
