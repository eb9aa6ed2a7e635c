"""Detection datasets: one module per annotation format, and the transforms that make batches of them."""
