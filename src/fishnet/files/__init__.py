"""Reading, walking and writing files that nobody vouches for. Torch-free; every refusal is one line."""
