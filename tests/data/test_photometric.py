"""Photometric distortion computes on the processor, wherever its module was first imported."""

import importlib

import torch

from fishnet.data import photometric


def test_imported_while_a_model_is_built_without_memory() -> None:
    with torch.device("meta"):
        importlib.reload(photometric)
    image = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
    assert photometric.distort(image, 1.0).device.type == "cpu"
