"""What happens inside a network: cost per stage, isolated convolutions, gradients, and what an image activates."""
