"""Settings of a training: the Recipe dataclass and the YAML files of each task. Torch-free."""
