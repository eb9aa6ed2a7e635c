"""Channel statistics of a dataset, for normalization."""

import numpy as np
import torch

from fishnet.data.base import ImageDataset
from fishnet.errors import InputError


def channel_statistics(images: ImageDataset, limit: int = 200) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the pixels of some images. Every image has the same weight.

    Args:
        images: the dataset; images that cannot be read are skipped.
        limit: read at most this many images, chosen with a fixed seed.

    Returns:
        (mean, std) of pixel values divided by 255, one number per channel, as
        :class:`~fishnet.images.preprocess.Preprocess` needs them. The std of a constant channel is 1.

    Raises:
        InputError: no image could be read.
    """
    order = np.random.default_rng(0).permutation(len(images))
    means: list[torch.Tensor] = []
    squares: list[torch.Tensor] = []
    problem = "the dataset is empty"
    for index in sorted(order[:limit].tolist()):
        try:
            pixels, _ = images.read_tensor(index)
        except InputError as error:
            problem = str(error)
            continue
        flat = pixels.flatten(1).double() / 255
        means.append(flat.mean(1))
        squares.append(flat.square().mean(1))
    if not means:
        raise InputError(f"no image could be read to compute the channel statistics: {problem}")
    mean = torch.stack(means).mean(0)
    std = (torch.stack(squares).mean(0) - mean.square()).clamp_min(0).sqrt()
    flat_channels = std <= 1e-6 * mean.abs()  # within rounding error of the difference of two such numbers
    std[flat_channels] = 1
    return tuple(mean.tolist()), tuple(std.tolist())
