"""Training's random transforms, of an image and of a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.classification.transforms import EvalTransform, TrainTransform
from fishnet.data.loading import Batch, SeededDataset, collate, seeded_rng
from fishnet.data.normalize import Lighting, Normalize
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike
from fishnet.images.preprocess import Preprocess
from tests.makers import image

ALL = {"rand_augment_ops": 2, "rand_augment_magnitude": 9, "color_jitter": 0.4, "erase": 1.0}
EACH = ("rand_augment_ops", "color_jitter", "erase")


def transform(interpolation: str = "bilinear", channels: int = 3, **options: Any) -> TrainTransform:
    preprocess = Preprocess((16, 24), interpolation=interpolation, mean=(0.4,) * channels, std=(0.2,) * channels)
    return TrainTransform(preprocess, crop_scale=(0.5, 1.0), crop_ratio=(0.7, 1.4), flip=0.5, **options)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("shape", [(30, 20), (1, 1), (1, 500)])
def test_exact_size(interpolation: str, mode: str, channels: int, shape: tuple[int, int]) -> None:
    tensor, target = transform(interpolation=interpolation)(Image.new(mode, shape, "white"), 5)
    assert (tuple(tensor.shape), tensor.dtype, target) == ((channels, 16, 24), torch.uint8, 5)
    assert (tensor == 255).all()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flip(flip: float) -> None:
    whole = TrainTransform(Preprocess((20, 40)), crop_scale=(1.0, 1.0), crop_ratio=(2.0, 2.0), flip=flip)
    image = Image.linear_gradient("L").rotate(90).resize((40, 20))
    expected = tv.pil_to_tensor(image)
    assert torch.equal(whole(image, 0)[0], expected.flip(-1) if flip else expected)


def test_crops_differ() -> None:
    image = Image.linear_gradient("L")
    assert len({transform()(image, 0)[0].numpy().tobytes() for _ in range(10)}) == 10


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_crop_and_mirroring_are_torchvisions(interpolation: str) -> None:
    train_transform = transform(interpolation)
    crop = v2.RandomResizedCrop(
        (16, 24),
        train_transform.random_crop.scale,
        train_transform.random_crop.ratio,
        interpolation=v2.InterpolationMode(interpolation),
        antialias=True,
    )
    reference = v2.Compose([crop, v2.RandomHorizontalFlip(train_transform.flip)])
    pixels = tv.pil_to_tensor(image("red", 0, (90, 70)))
    for seed in range(5):
        with seeded_rng(seed):
            result, _ = train_transform(pixels, 0)
        with seeded_rng(seed):
            assert torch.equal(result, reference(pixels))


@pytest.mark.parametrize("options", [{key: ALL[key]} for key in EACH] + [ALL], ids=[*EACH, "all"])
@pytest.mark.parametrize("channels", [1, 3])
def test_options(channels: int, options: dict[str, Any]) -> None:
    pixels = tv.pil_to_tensor(image("red", 0).convert("RGB" if channels == 3 else "L"))
    before = pixels.clone()
    changed = 0
    for seed in range(20):
        results = []
        for choice in (transform(channels=channels), transform(channels=channels, **options)):
            for _ in range(2):
                with seeded_rng(seed):
                    results.append(choice(pixels, 1)[0])
        plain, _, augmented, again = results
        assert (tuple(augmented.shape), augmented.dtype) == ((channels, 16, 24), torch.uint8)
        assert torch.equal(augmented, again), "depends on torch's generator alone"
        changed += not torch.equal(plain, augmented)
    assert torch.equal(pixels, before), "the image is left as it was"
    assert changed >= 10


def test_erasing_leaves_what_is_zero_to_the_network() -> None:
    preprocess = Preprocess((32, 32))
    whole = TrainTransform(preprocess, crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, erase=1.0)
    pixels = Normalize(preprocess)(whole(Image.new("RGB", (32, 32), "white"), 0)[0][None])
    erased = pixels[0, 0] < 1
    assert 0.02 * 0.8 <= erased.float().mean() <= 0.33 * 1.2
    assert pixels[:, :, erased].abs().max() < 0.5 / 255 / 0.2


def test_a_larger_magnitude_changes_more() -> None:
    decoded = image("blue", 1, (60, 60))

    def moved(magnitude: int) -> float:
        torch.manual_seed(0)
        options = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": 0.0}
        plain = TrainTransform(Preprocess((60, 60)), **options)(decoded, 0)[0].float()
        strong = TrainTransform(Preprocess((60, 60)), **options, rand_augment_ops=1, rand_augment_magnitude=magnitude)
        return float(np.mean([(strong(decoded, 0)[0] - plain).abs().mean() for _ in range(60)]))

    assert moved(2) < moved(9) < moved(28)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 4, "rand_augment_ops": 1}, "rand_augment_ops=1: supports grey and RGB, not 4 channels"),
        ({"channels": 2, "color_jitter": 0.1}, "color_jitter=0.1: supports grey and RGB"),
        ({"rand_augment_ops": 1, "rand_augment_magnitude": 31}, "whole number from 0 to 30"),
        ({"rand_augment_ops": 1, "rand_augment_magnitude": 2.5}, "whole number from 0 to 30"),
        ({"rand_augment_ops": 1, "rand_augment_magnitude": -1}, "whole number from 0 to 30"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        transform(**options)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [2, 5])
def test_many_channels(channels: int, dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 30, channels)).astype(dtype)
    for source in (array, torch.from_numpy(array).permute(2, 0, 1)):
        pixels, _ = transform(channels=channels, erase=1.0)(source, 0)
        assert tuple(pixels.shape) == (channels, 16, 24)
        assert pixels.numpy().dtype == dtype


class Constant(ImageDataset):
    """Images of one colour each, that count how they are read."""

    channels, classes = 3, Classes.of(["a", "b"])

    def __init__(self) -> None:
        self.tensors = 0

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> tuple[ImageLike, int]:
        return Image.new("RGB", (30, 20), (10 * index, 100, 200)), index % 2

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, int]:
        self.tensors += 1
        return super().read_tensor(index, min_side)

    def source(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("training", [True, False])
def test_samples_become_batches_with_channels_side_by_side(training: bool) -> None:
    images = Constant()
    seeded = SeededDataset(images, transform() if training else EvalTransform(Preprocess((16, 24))))
    batch: Batch = collate([seeded[0, i] for i in range(4)])
    assert images.tensors == (4 if training else 0), "training reads tensors, validation images"
    assert tuple(batch.images.shape) == (4, 3, 16, 24)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images[:, 0].flatten(1).float().mean(1).tolist() == [0, 10, 20, 30]


# batches


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise(dtype: torch.dtype, layout: torch.memory_format, channels: int) -> None:
    preprocess = Preprocess(
        (8, 6), mean=tuple(np.linspace(0.3, 0.5, channels)), std=tuple(np.linspace(0.2, 0.3, channels))
    )
    images = torch.randint(0, 256, (4, channels, 8, 6)).to(dtype).contiguous(memory_format=layout)
    before, light = images.clone(), torch.randn(4, channels) / 10
    normalize = Normalize(preprocess)
    result = normalize(images)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before), "the batch is left as it was"
    # values reach 5 here, float32 keeps 24 bits, and the operations come in another order
    np.testing.assert_allclose(result.numpy(), preprocess.normalize(images.numpy()), atol=1e-6)
    lit = preprocess.normalize((images + 255 * light[:, :, None, None]).numpy())
    np.testing.assert_allclose(normalize(images, light).numpy(), lit, atol=2e-6)


def test_lighting_is_mostly_brightness() -> None:
    # ImageNet's colours: the first axis is (nearly) grey, and holds most of the variance.
    lighting = Lighting(0.1)
    shift = lighting.draw(20_000)
    assert tuple(shift.shape) == (20_000, 3)
    axis = torch.linalg.eigh(shift.T.cov()).eigenvectors[:, -1]
    assert (axis.abs() - 3**-0.5).abs().max() < 0.02
    assert axis.min() * axis.max() > 0, "red, green and blue move the same way"
    same_way = (shift > 0).all(1) | (shift < 0).all(1)
    assert same_way.float().mean() > 0.85
    assert (shift.mean(0).abs() < 1e-3).all()


def test_lighting_has_the_published_covariance() -> None:
    values = torch.tensor([0.2175, 0.0188, 0.0045])
    columns = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = columns @ torch.diag((0.3 * values) ** 2) @ columns.T
    covariance = Lighting(0.3).draw(200_000).T.cov()
    assert (covariance - expected).abs().max() < 0.02 * expected.max()
    along = torch.stack([vector @ covariance @ vector for vector in columns.T]).sqrt()
    torch.testing.assert_close(along, 0.3 * values, rtol=0.03, atol=0)


def test_lighting_of_images() -> None:
    images = torch.rand(4, 3, 5, 6)
    lighting = Lighting(0.1)
    lit = lighting(images, torch.Generator().manual_seed(3))
    shift = lighting.draw(4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(lit, images + shift[:, :, None, None])
    torch.manual_seed(3)
    assert torch.equal(lighting(images), lit), "by default torch's global generator"
    assert not torch.equal(shift[0], shift[1]), "each image gets its own"
    assert not lighting.state_dict()
    assert torch.equal(Lighting(0.0)(images), images)


@pytest.mark.parametrize("shape", [(4, 1, 5, 5), (4, 4, 5, 5), (3, 5, 5)])
def test_lighting_is_for_rgb(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="PCA lighting is for RGB"):
        Lighting()(torch.rand(shape))


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (0.75, 4 / 3)), ((0.35, 1.0), (0.5, 1.0)), ((1.0, 1.0), (1.0, 1.0))]
)
def test_the_least_side_is_enough_for_every_crop(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    train_transform = TrainTransform(Preprocess((64, 64)), crop_scale=scale, crop_ratio=ratio, flip=0.5)
    assert train_transform.min_side is not None
    image = torch.empty(3, train_transform.min_side, train_transform.min_side)
    sides = [
        side
        for _ in range(500)
        for name, side in train_transform.random_crop.make_params([image]).items()
        if name in ("height", "width")
    ]
    assert min(sides) >= 63, "torchvision rounds a crop's sides"
    assert min(sides) < 90, "no more than needed"
