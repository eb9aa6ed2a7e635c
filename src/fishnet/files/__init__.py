"""Reading, walking and writing untrusted files. Torch-free. Every refusal is one line."""
