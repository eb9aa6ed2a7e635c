"""Files as tensors: Pillow's pixels and messages, whichever decoder is at work."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fishnet.data import decode
from fishnet.data.classification.folder import ImageFolder
from fishnet.data.decode import decode_tensor, to_tensor
from fishnet.errors import InputError
from fishnet.images.decoding import decode_image, read_image, size_of
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import DEFAULT, Reading
from fishnet.prediction.inputs import load_image
from tests.makers import image


def detailed(width: int = 61, height: int = 47) -> Image.Image:
    return image("green", 3, (width, height)).resize((width, height), Image.Resampling.BICUBIC, (3, 2, 40, 31))


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def oriented(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif)


@pytest.fixture
def fast_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("not by the fast decoder")

    monkeypatch.setattr(decode, "decode_image", refuse)


@pytest.fixture
def slow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("by the fast decoder")

    monkeypatch.setattr(decode, "decode_jpeg", refuse)


def same_as_pillow(content: bytes, channels: int) -> bool:
    decoded, wanted = decode_tensor(content, channels), to_tensor(decode_image(content, channels))
    return decoded.dtype == wanted.dtype and torch.equal(decoded, wanted)


GREY, COLOUR = detailed().convert("L"), detailed()
PLAIN = {
    "4:4:4": (encoded(COLOUR, subsampling=0), 3),
    "4:2:2": (encoded(COLOUR, subsampling=1), 3),
    "4:2:0": (encoded(COLOUR, subsampling=2), 3),
    "best": (encoded(COLOUR, quality=100), 3),
    "worst": (encoded(COLOUR, quality=5), 3),
    "progressive": (encoded(COLOUR, progressive=True), 3),
    "restarts": (encoded(COLOUR, restart_marker_rows=1), 3),
    "stored as RGB": (encoded(COLOUR, keep_rgb=True), 3),
    "grey": (encoded(GREY), 1),
    "progressive grey": (encoded(GREY, progressive=True), 1),
    "1 x 1": (encoded(COLOUR.resize((1, 1))), 3),
    "bytes behind it": (encoded(COLOUR) + b"abc" * 50, 3),
}
OTHERS = {
    "rotated": (oriented(COLOUR, 6), 3),
    "EXIF that says upright": (oriented(COLOUR, 1), 3),
    "grey for RGB": (encoded(GREY), 3),
    "RGB for grey": (encoded(COLOUR), 1),
    "CMYK": (encoded(COLOUR.convert("CMYK")), 3),
    "PNG": (encoded(COLOUR, "PNG"), 3),
    "RGBA": (encoded(COLOUR.convert("RGBA"), "PNG"), 3),
    "palette": (encoded(COLOUR.quantize(9), "GIF"), 1),
}


@pytest.mark.usefixtures("fast_only")
@pytest.mark.parametrize("name", PLAIN)
def test_plain_jpegs_are_pillows_pixels(name: str) -> None:
    content, channels = PLAIN[name]
    decoded = decode_tensor(content, channels)
    with Image.open(io.BytesIO(content)) as image:
        assert torch.equal(decoded, to_tensor(image))
    assert decoded.dtype == torch.uint8


@pytest.mark.usefixtures("slow_only")
@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_goes_through_pillow(name: str) -> None:
    content, channels = OTHERS[name]
    assert same_as_pillow(content, channels)


def test_without_torchvisions_decoder_pillow_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = decode_tensor(*PLAIN["4:2:0"])
    monkeypatch.setattr(decode, "decode_jpeg", None)
    assert torch.equal(decode_tensor(*PLAIN["4:2:0"]), wanted)


def test_no_warning_leaks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_tensor(*PLAIN["4:2:0"])
        decode_tensor(*OTHERS["rotated"])


def message(content: bytes, channels: int, reading: Reading = DEFAULT) -> str:
    with pytest.raises(InputError) as by_pillow:
        decode_image(content, channels, "here.jpg", reading=reading)
    with pytest.raises(InputError) as caught:
        decode_tensor(content, channels, "here.jpg", reading=reading)
    assert str(caught.value) == str(by_pillow.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", ["4:2:0", "progressive", "grey"])
def test_truncated_files_are_refused_as_by_pillow(name: str, share: float) -> None:
    content, channels = PLAIN[name]
    assert "here.jpg: " in message(content[: int(share * len(content))], channels)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff" * 99, b"no image", PLAIN["best"][0][2:]])
def test_no_images(content: bytes) -> None:
    assert message(content, 3).startswith("here.jpg: not an image that can be read")


@pytest.mark.parametrize("name", ["4:2:0", "grey"])
def test_too_many_pixels(name: str) -> None:
    assert "too many pixels" in message(*PLAIN[name], Reading(max_pixels=1000))


def outcome(decoder: Callable[..., Any], content: bytes, channels: int) -> str | tuple[Any, ...]:
    """The pixels, or the message."""
    try:
        decoded = decoder(content, channels, "here.jpg")
    except InputError as error:
        return str(error)
    tensor = decoded if isinstance(decoded, torch.Tensor) else to_tensor(decoded)
    return tensor.shape, tensor.numpy().tobytes()


def test_damaged_files_are_taken_or_refused_as_by_pillow() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for name in ("4:4:4", "4:2:0", "progressive", "restarts", "grey"):
        content, channels = PLAIN[name]
        for _ in range(60):
            damaged = bytearray(content)
            for at in rng.integers(2, len(content), 3):
                damaged[at] = rng.integers(256)
            wanted = outcome(decode_image, bytes(damaged), channels)
            assert outcome(decode_tensor, bytes(damaged), channels) == wanted
            refused += isinstance(wanted, str)
    assert refused > 10


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_many_channels(dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 6)).astype(dtype)
    stream = io.BytesIO()
    np.save(stream, array)
    decoded = decode_tensor(stream.getvalue(), 6)
    assert str(decoded.dtype) == f"torch.{dtype}"
    np.testing.assert_array_equal(decoded.permute(1, 2, 0).numpy(), array)
    decoded += 1  # memory of its own


def test_a_folder_reads_tensors_and_images_alike(folder: Path) -> None:
    images = ImageFolder(folder)
    kinds = set()
    for i in range(len(images)):
        kinds.add(Path(images.source(i)).suffix)
        tensor, target = images.read_tensor(i)
        image, label = images.read(i)
        assert target == label
        assert torch.equal(tensor, to_tensor(image))
    assert kinds == {".jpg", ".png"}


@pytest.mark.parametrize(
    "content", [encoded(detailed(640, 480)), oriented(detailed(640, 480), 6)], ids=["plain", "EXIF"]
)
@pytest.mark.parametrize(("min_side", "factor"), [(0, 1), (241, 1), (240, 2), (121, 2), (100, 4), (60, 8), (1, 8)])
def test_large_photos_come_smaller(content: bytes, min_side: int, factor: int) -> None:
    whole, decoded = decode_tensor(content), decode_tensor(content, min_side=min_side)
    assert [side * factor for side in decoded.shape[1:]] == list(whole.shape[1:])
    shrunk = whole.float().unflatten(1, (-1, factor)).unflatten(3, (-1, factor)).mean((2, 4))
    assert (decoded - shrunk).abs().mean() < 2, "each pixel is (nearly) the mean of those it stands for"


def test_only_jpegs_come_smaller() -> None:
    assert decode_tensor(encoded(detailed(640, 480), "PNG"), min_side=10).shape == (3, 480, 640)
    with pytest.raises(InputError, match=r"b\.jpg: broken image"):
        decode_tensor(encoded(detailed(640, 480))[:2000], source="b.jpg", min_side=10)


@pytest.mark.parametrize("turned", [1, 6])
def test_predictions_and_validation_decode_large_photos_smaller(turned: int, tmp_path: Path) -> None:
    """A crop of 64 px needs 74 px before it; the decoded image has at least 1.5 times as many on each side."""
    preprocess = Preprocess((64, 64))
    for name, size in (("large", (800, 600)), ("medium", (200, 150))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_bytes(oriented(detailed(*size), turned))
    images = ImageFolder(tmp_path)
    images.reading = preprocess.reading
    sizes = {}
    for i in range(len(images)):
        path = images.source(i)
        predicted, validated = load_image(path, preprocess), images.read(i)[0]
        assert np.array_equal(np.asarray(predicted), np.asarray(validated))
        whole = preprocess.pixels(read_image(path)).astype(int)
        assert np.abs(preprocess.pixels(predicted) - whole).max() <= 6, "levels of 255"
        sizes[Path(path).parent.name] = min(size_of(predicted))
    assert sizes == {"large": 150, "medium": 150}, "a quarter, and whole"
    for other in (Preprocess((64, 64), fit="whole"), Preprocess((64, 64), interpolation="nearest")):
        assert min(size_of(load_image(tmp_path / "large" / "photo.jpg", other))) == 600
