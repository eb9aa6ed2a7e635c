"""What the pixels of a data set are like: the numbers that inputs are normalized by."""

import numpy as np
import torch

from fishnet.data.base import ImageDataset
from fishnet.errors import InputError


def channel_statistics(images: ImageDataset, limit: int = 200) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over the pixels of some images, each image counting the same.

    Args:
        images: the set; those that cannot be read are passed over.
        limit: how many images to read, chosen by a fixed seed.

    Returns:
        (mean, std), one number a channel, of pixel values divided by 255, as
        :class:`~fishnet.images.preprocess.Preprocess` takes them. A channel without any variation has a std of 1.

    Raises:
        InputError: no image could be read.
    """
    order = np.random.default_rng(0).permutation(len(images))
    means: list[torch.Tensor] = []
    squares: list[torch.Tensor] = []
    problem = "there are none"
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
        raise InputError(f"no image could be read to measure the channels by: {problem}")
    mean = torch.stack(means).mean(0)
    std = (torch.stack(squares).mean(0) - mean.square()).clamp_min(0).sqrt()
    flat_channels = std <= 1e-6 * mean.abs()  # below what the difference of two such numbers can tell
    std[flat_channels] = 1
    return tuple(mean.tolist()), tuple(std.tolist())
