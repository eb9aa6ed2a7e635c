"""From images to results, whatever engine computes. Torch-free."""
