"""A trained model as a folder, its classes, and the hub. Torch-free."""
