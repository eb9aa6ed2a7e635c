"""Image files: which are opened, how large they may be, and where their bytes come from. Torch-free."""
