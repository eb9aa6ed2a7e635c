"""Preprocessing: torchvision's geometry, exact sizes, and one arithmetic for every engine."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fishnet.data.classification.transforms import EvalTransform
from fishnet.data.normalize import Normalize
from fishnet.errors import InputError
from fishnet.images.decoding import to_channels
from fishnet.images.preprocess import Preprocess

GREY = {"mean": (0.45,), "std": (0.22,)}


def ramp(width: int, height: int, across: float = 2.0, down: float = 1.5) -> Image.Image:
    """An image that brightens by ``across`` a pixel to the right and ``down`` a pixel downwards, not beyond 255."""
    scale = min(1.0, 250 / (across * width + down * height))
    values = scale * (across * np.arange(width)[None] + down * np.arange(height)[:, None])
    return Image.fromarray(np.stack([values, 250 - values, values / 2], -1).round().astype(np.uint8))


def torchvision_crop(image: Image.Image, size: int, crop_pct: float, interpolation: str) -> np.ndarray:
    steps = v2.Compose(
        [v2.Resize(round(size / crop_pct), InterpolationMode(interpolation), antialias=True), v2.CenterCrop(size)]
    )
    return np.asarray(steps(image)).astype(int)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (160, 0.95), (32, 1.0), (256, 0.8)])
@pytest.mark.parametrize("shape", [(300, 400), (500, 333), (256, 256), (40, 36), (1000, 200)])
def test_against_torchvision(shape: tuple[int, int], size: int, crop_pct: float, interpolation: str) -> None:
    image = ramp(*shape)
    cropped = np.asarray(Preprocess((size, size), crop_pct, interpolation).crop(image)).astype(int)
    expected = torchvision_crop(image, size, crop_pct, interpolation)
    assert cropped.shape == expected.shape
    # The longer side and the crop's edge are each rounded to whole pixels of the resized image, in another way: at
    # most one pixel of it, which on a ramp is its slope, plus 2 for the rounding of both to whole grey values.
    step = max(np.abs(np.diff(expected, axis=0)).max(), np.abs(np.diff(expected, axis=1)).max())
    assert np.abs(cropped - expected).max() <= step + 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvision_where_nothing_is_rounded(interpolation: str) -> None:
    # 512 x 256 at 224 / 0.875 = 256: no resizing; 1024 x 512: exactly half.
    noise = np.random.default_rng(0).integers(60, 200, (512, 1024, 3), dtype=np.uint8)
    for image in (Image.fromarray(noise[:256, :512]), Image.fromarray(noise)):
        cropped = np.asarray(Preprocess(interpolation=interpolation).crop(image)).astype(int)
        # 1: the resampling runs over rows and columns, rounding in between, and may do so in either order.
        assert np.abs(cropped - torchvision_crop(image, 224, 0.875, interpolation)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2), (1, 30_000), (30_000, 1), (224, 224), (31, 997)])
@pytest.mark.parametrize("size", [(224, 224), (64, 96), (33, 7)])
def test_the_size_is_exact_whatever_the_image(size: tuple[int, int], shape: tuple[int, int], channels: int) -> None:
    preprocess = Preprocess(size, **(GREY if channels == 1 else {}))
    pixels = preprocess.pixels(
        Image.new("RGB" if channels == 3 else "L", shape, 200 if channels == 1 else (200, 200, 200))
    )
    assert pixels.shape == (channels, *size)
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    assert (pixels == 200).all(), "nothing from beyond the image's edge"


def test_a_very_long_image_makes_no_very_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *more: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    Preprocess((64, 96)).pixels(Image.new("RGB", (1, 30_000)))  # resized as a whole, it would have 500 million pixels
    assert sizes == [(96, 64)]


def test_the_crop_is_the_middle() -> None:
    image = Image.new("RGB", (300, 100))
    image.paste((255, 0, 0), (100, 0, 200, 100))
    pixels = Preprocess((50, 50), 1.0, "nearest").pixels(image)
    assert (pixels[0] == 255).all()
    wide = np.asarray(Preprocess((10, 30), 1.0, "nearest").crop(image))
    assert [tuple(wide[5, x]) for x in (1, 15, 28)] == [(0, 0, 0), (255, 0, 0), (0, 0, 0)]


def test_grey_and_colour_inputs_meet_the_model() -> None:
    grey, colour = Image.new("L", (40, 40), 90), Image.new("RGB", (40, 40), (90, 90, 90))
    for options, channels in ((GREY, 1), ({}, 3)):
        preprocess = Preprocess((32, 32), **options)
        assert preprocess.channels == channels
        pixels = [preprocess.pixels(to_channels(image, channels)) for image in (grey, colour)]
        assert np.array_equal(*pixels)


@pytest.mark.parametrize("options", [{}, GREY])
def test_one_arithmetic_for_numpy_and_torch(options: dict[str, Any]) -> None:
    preprocess = Preprocess((8, 8), **options)
    pixels = np.random.default_rng(0).integers(0, 256, (2, preprocess.channels, 8, 8), dtype=np.uint8)
    by_numpy = preprocess.normalize(pixels)
    by_torch = Normalize(preprocess)(torch.from_numpy(pixels)).numpy()
    assert by_numpy.dtype == by_torch.dtype == np.float32
    np.testing.assert_allclose(by_numpy, by_torch, atol=1e-6)  # values reach 3, float32 keeps 24 bits, in another order
    expected = (pixels / 255 - np.array(preprocess.mean)[:, None, None]) / np.array(preprocess.std)[:, None, None]
    # float32 has 24 bits: about 1e-7 of a value before the mean is taken off, divided by 0.22
    np.testing.assert_allclose(by_numpy, expected, atol=2e-6)


def test_validation_in_training_uses_the_same_pixels() -> None:
    preprocess, image = Preprocess((32, 48)), ramp(90, 70)
    tensor, target = EvalTransform(preprocess)(image, 3)
    assert target == 3
    np.testing.assert_array_equal(tensor.numpy(), preprocess.pixels(image))


def test_orientation_is_applied() -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    image.info["exif"] = exif.tobytes()
    upright = np.asarray(Preprocess((20, 40), 1.0, "nearest").crop(to_channels(image, 3)))
    assert upright[0, 0].tolist() == [0, 0, 0]
    assert upright[0, 39].tolist() == [255, 255, 255]


def test_round_trip() -> None:
    preprocess = Preprocess((96, 128), 0.9, "bicubic", (0.4,), (0.2,))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interpolation": "bilinaer"}, "bilinear, bicubic"),
        ({"mean": (0.5,)}, "different lengths"),
        ({"size": (0, 5)}, "size"),
        ({"size": (5,)}, "size"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 1.1}, "crop_pct"),
        ({"crop_pct": float("nan")}, "crop_pct"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"std": (0.5, 0.5, float("inf"))}, "finite"),
    ],
)
def test_wrong_settings(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Preprocess(**options)


def test_another_number_of_channels() -> None:
    with pytest.raises(InputError, match="holds 3 channels, but the model takes 2"):
        to_channels(Image.new("RGB", (4, 4)), 2)
    for options in (GREY, {"mean": (0.5, 0.5), "std": (0.5, 0.5)}):
        with pytest.raises(InputError, match=r"the image has 3 channels, but the model takes \d"):
            Preprocess(**options).pixels(Image.new("RGB", (4, 4)))  # type: ignore[arg-type]


def test_what_becomes_of_16_bits_travels_with_the_model() -> None:
    values = np.linspace(0, 235, 400).reshape(20, 20).astype(np.uint16)
    pixels = {}
    for policy in ("shift", "stretch"):
        preprocess = Preprocess((20, 20), 1.0, sixteen_bit=policy, **GREY)
        assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
        pixels[policy] = preprocess.pixels(to_channels(Image.fromarray(values), 1, preprocess.reading))
    assert (pixels["shift"].max(), pixels["stretch"].max()) == (0, 255)
    old = {key: value for key, value in Preprocess().to_dict().items() if key not in ("sixteen_bit", "fit")}
    assert Preprocess.from_dict(old) == Preprocess(), "a bundle from before there was a choice"
    with pytest.raises(InputError, match="sixteen_bit 'strech': choose from shift, stretch"):
        Preprocess(sixteen_bit="strech")  # type: ignore[arg-type]
