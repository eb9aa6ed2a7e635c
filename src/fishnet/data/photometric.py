"""Photometric distortion in one pass over the pixels."""

import math

import torch
from torch import Tensor

BRIGHTNESS = (0.875, 1.125)
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)  # of a full turn
_LUMA = torch.tensor([0.299, 0.587, 0.114], device="cpu")  # ITU-R 601; on the CPU even if imported under "meta"


def distort(image: Tensor, probability: float) -> Tensor:
    """Randomly changes brightness, contrast and, of RGB, saturation and hue, each within a fixed range.

    The steps and ranges are those of SSD (arXiv 1512.02325, after arXiv 1312.5402), but channels are not swapped,
    because colours distinguish classes in small datasets. The hue is rotated about the grey axis, so each step is an
    affine map of (red, green, blue), and one matrix does all of them. ``v2.RandomPhotometricDistort``, which rotates
    the hue in HSV, takes seven times as long. Random numbers come from torch's global generator.

    Args:
        image: (channels, height, width) uint8, of 1 or 3 channels; fastest if channels last in memory.
        probability: probability of each step, 0..1; SSD uses 0.5.

    Returns:
        The same shape, uint8, channels last in memory.
    """
    channels, height, width = image.shape
    chosen = (torch.rand(4) < probability).tolist()
    brightness, contrast, saturation, hue = (
        float(torch.empty(()).uniform_(low, high)) for low, high in (BRIGHTNESS, CONTRAST, SATURATION, HUE)
    )
    if not any(chosen[: 4 if channels == 3 else 2]):
        return image
    rows = image.permute(1, 2, 0).reshape(-1, channels).to(torch.float32)
    matrix, shift = torch.eye(channels), torch.zeros(channels)
    if chosen[0]:
        matrix = matrix * brightness
    if channels == 3:
        if chosen[2]:
            matrix = (saturation * torch.eye(3) + (1 - saturation) * _LUMA.expand(3, 3)) @ matrix
        if chosen[3]:
            matrix = _rotation(hue) @ matrix
    if chosen[1]:
        mean = matrix @ rows.mean(0)
        grey = mean @ _LUMA if channels == 3 else mean[0]
        matrix, shift = contrast * matrix, ((1 - contrast) * grey).expand(channels)
    changed = torch.addmm(shift, rows, matrix.T).clamp_(0, 255).round_().to(torch.uint8)
    return changed.view(height, width, channels).permute(2, 0, 1)


def _rotation(hue: float) -> Tensor:
    """The rotation of RGB about the grey axis, by a fraction of a full turn (Rodrigues' formula)."""
    cos, sin = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue) / math.sqrt(3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    return cos * torch.eye(3) + (1 - cos) / 3 * torch.ones(3, 3) + sin * cross
