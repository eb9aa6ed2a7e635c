"""Images with other numbers of channels than 1 and 3, from file to the network's input, and arrays of any kind."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.data.classification.folder import ImageFolder
from fishnet.data.classification.transforms import EvalTransform
from fishnet.data.decode import to_tensor
from fishnet.data.normalize import Normalize
from fishnet.data.statistics import channel_statistics
from fishnet.errors import InputError
from fishnet.images.decoding import as_view, read_image, to_channels
from fishnet.images.depth import to_pixels
from fishnet.images.preprocess import Preprocess
from fishnet.images.scanning import find_images
from fishnet.prediction.predictor import Predictor

KINDS = {"u": 1, "i": 2, "f": 3}


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1000
    return (np.random.default_rng(seed).random(shape) * top).astype(dtype)


def plain_tiff(
    path: Path, array: NDArray[Any], *, planar: bool = False, order: str = "<", photometric: int = 1
) -> None:
    """An uncompressed TIFF of (height, width, samples) in two strips, laid out as in its specification."""
    height, width, samples = array.shape
    data = (np.moveaxis(array, -1, 0) if planar else array).astype(array.dtype.newbyteorder(order)).tobytes()
    half = len(data) // 2
    bits = struct.pack(f"{order}{samples}H", *[array.itemsize * 8] * samples)
    form = struct.pack(f"{order}{samples}H", *[KINDS[array.dtype.kind]] * samples)
    at = 8 + 2 + 12 * 11 + 4
    places = [at, at + len(bits), at + 2 * len(bits), at + 2 * len(bits) + 8]
    begin = places[3] + 8
    tags: Sequence[tuple[int, int, int, int]] = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, places[0]), (259, 4, 1, 1),
        (262, 4, 1, photometric), (273, 4, 2, places[2]), (277, 4, 1, samples), (278, 4, 1, -(-height // 2)),
        (279, 4, 2, places[3]), (284, 4, 1, 2 if planar else 1), (339, 3, samples, places[1]),
    ]  # fmt: skip
    out = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(f"{order}H", len(tags))
    out += b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags) + bytes(4)
    out += (
        bits + form + struct.pack(f"{order}2I", begin, begin + half) + struct.pack(f"{order}2I", half, len(data) - half)
    )
    path.write_bytes(out + data)


def pages(path: Path, arrays: Sequence[NDArray[Any]], **more: Any) -> None:
    first, *rest = [Image.fromarray(array) for array in arrays]
    first.save(path, save_all=True, append_images=rest, **more)


# files


@pytest.mark.parametrize("channels", [2, 4, 5, 64])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_pages_are_channels(channels: int, compression: str | None, tmp_path: Path) -> None:
    array = noise(9, 7, channels)
    pages(tmp_path / "a.tif", [array[..., c] for c in range(channels)], compression=compression)
    decoded = read_image(tmp_path / "a.tif", channels)
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize(("dtype", "divisor"), [(np.uint16, 256), (np.float32, 1)])
def test_pages_keep_their_precision(dtype: Any, divisor: int, tmp_path: Path) -> None:
    array = noise(6, 8, 4, dtype=dtype)
    pages(tmp_path / "a.tif", [array[..., c] for c in range(4)])
    decoded = read_image(tmp_path / "a.tif", 4)
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, array.astype(np.float32) / divisor)


def test_pages_of_several_channels_and_kinds(tmp_path: Path) -> None:
    rgb, grey, deep = noise(5, 6, 3), noise(5, 6, 3, seed=1), noise(5, 6, dtype=np.uint16)
    pages(tmp_path / "a.tif", [rgb, grey])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 6), np.concatenate([rgb, grey], -1))
    pages(tmp_path / "b.tif", [noise(5, 6), deep])
    both = np.asarray(read_image(tmp_path / "b.tif", 2))
    np.testing.assert_array_equal(both, np.stack([noise(5, 6), deep / 256], -1).astype(np.float32))


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "LA"])
def test_the_raw_channels_of_one_page(mode: str, tmp_path: Path) -> None:
    array = noise(4, 5, len(mode))
    Image.fromarray(array, mode if mode == "CMYK" else None).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", len(mode)), array)
    if mode != "CMYK":
        Image.fromarray(array).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", len(mode)), array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_samples_that_pillow_does_not_read(dtype: Any, planar: bool, order: str, tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    array = noise(6, 5, 7, dtype=dtype)
    plain_tiff(tmp_path / "a.tif", array, planar=planar, order=order)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 7), to_pixels(array))


def test_samples_in_a_form_that_pillow_reads_in_part(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    entry = struct.pack("<HHI", 338, 3, 1)  # of the extra sample: 2 is transparency, 0 anything

    def save(compression: str | None) -> None:
        Image.fromarray(noise(6, 5, 4)).save(tmp_path / "a.tif", compression=compression)
        data = (tmp_path / "a.tif").read_bytes()
        assert entry + b"\2\0" in data
        (tmp_path / "a.tif").write_bytes(data.replace(entry + b"\2\0", entry + b"\0\0"))

    for compression in ("tiff_lzw", None):
        save(compression)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 4), noise(6, 5, 4))


@pytest.mark.parametrize("compression", [None, "zlib"])  # Pillow refuses the first, and mixes up the second
def test_grey_and_alpha_in_planes_of_their_own(compression: str | None, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = noise(6, 5, 2)
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(array, -1, 0), photometric="minisblack", planarconfig="separate",
        extrasamples=["unassalpha"], compression=compression,
    )  # fmt: skip
    assert Image.open(tmp_path / "a.tif").mode == "LA"
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 2), array)


def test_an_open_tiff_of_which_pillow_gives_a_part_is_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = noise(6, 5, 5)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha", "unspecified"])
    with Image.open(tmp_path / "a.tif") as image:
        assert len(image.getbands()) == 4
        with pytest.raises(InputError, match="has 5 samples per pixel, of which Pillow reads 4"):
            to_channels(image, 4)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 5), array)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_of_16_bits_keeps_its_upper_half(channels: int, tmp_path: Path) -> None:
    array = noise(6, 5, 3, dtype=np.uint16)
    plain_tiff(tmp_path / "a.tif", array, photometric=2)
    Image.fromarray((array >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    for suffix in ("tif", "png"):
        decoded = read_image(tmp_path / f"a.{suffix}", channels)
        np.testing.assert_array_equal(decoded, read_image(tmp_path / "a.png", channels))


def test_orientation_of_pages(tmp_path: Path) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[274] = 3  # upside down
    array = noise(4, 5, 2)
    pages(tmp_path / "a.tif", [array[..., 0], array[..., 1]], tiffinfo=info)
    decoded = np.asarray(read_image(tmp_path / "a.tif", 2))
    np.testing.assert_array_equal(decoded[..., 0], array[::-1, ::-1, 0])


@pytest.mark.parametrize(
    ("shape", "channels", "axis"),
    [((4, 6, 5), 5, 2), ((5, 4, 6), 5, 0), ((5, 4, 5), 5, 2), ((2, 9, 9), 2, 0), ((64, 64, 64), 64, 2)],
)
def test_the_axis_of_an_array(shape: tuple[int, ...], channels: int, axis: int, tmp_path: Path) -> None:
    array = noise(*shape)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", channels), np.moveaxis(array, axis, -1))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "uint8"), ("bool", "uint8"), (">u2", "float32"), ("int16", "float32"), ("float64", "float32"),
     ("float16", "float32")],
)  # fmt: skip
def test_numbers_of_an_array(dtype: str, expected: str, tmp_path: Path) -> None:
    values = noise(4, 6, 5, seed=3) % (2 if dtype == "bool" else 200)
    np.save(tmp_path / "a.npy", np.asfortranarray(values.astype(dtype)))
    decoded = read_image(tmp_path / "a.npy", 5)
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == expected
    np.testing.assert_array_equal(decoded, values * {"bool": 255, ">u2": 1 / 256}.get(dtype, 1))


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (1, 6, 7), (6, 7, 3), (3, 6, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_for_grey_and_colour(shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    deep = noise(*shape, dtype=np.uint16)
    values = np.moveaxis(deep, 0, -1) if shape[0] in (1, 3) else deep
    Image.fromarray((values >> 8).astype(np.uint8).squeeze()).save(tmp_path / "a.png")
    expected = read_image(tmp_path / "a.png", channels)
    for array in (deep, (deep >> 8).astype(np.uint8)):
        np.save(tmp_path / "a.npy", array)
        decoded = read_image(tmp_path / "a.npy", channels)
        assert isinstance(decoded, Image.Image)
        assert decoded.tobytes() == expected.tobytes()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("array", "channels", "words"),
    [
        (noise(8, 9, 4), 5, "holds 4 channels, but the model takes 5: train with channels 4"),
        (noise(8, 9, 4), 3, "holds 4 channels, but the model takes 3"),
        (noise(4, 8, 9), 5, "holds 4 channels"),
        (noise(8, 9), 5, "holds 1 channel, but the model takes 5"),
        (noise(8), 5, "shape (8,)"),
        (noise(2, 8, 9, 5), 5, "shape (2, 8, 9, 5)"),
        (noise(0, 8, 5), 5, "shape (0, 8, 5)"),
        (np.full((8, 9, 5), np.nan), 5, "not finite"),
        (np.zeros((8, 9, 5), complex), 5, "complex128"),
        (np.zeros((8, 9, 5), object), 5, "Python objects"),
        (np.zeros((8, 9, 3), np.float32), 3, "float32: for 1 or 3 channels save uint8"),
        (np.zeros((8, 9), np.int64), 1, "int64: for 1 or 3 channels"),
    ],
)
def test_arrays_that_do_not_fit(array: NDArray[Any], channels: int, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "a.npy", channels)
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "a.png")
    pages(tmp_path / "b.tif", [noise(4, 5)] * 4)
    pages(tmp_path / "c.tif", [noise(4, 5), noise(5, 4)])
    for name, channels, words in (
        ("a.png", 5, "holds 3 channels, but the model takes 5: train with channels 3"),
        ("b.tif", 5, "holds 4 channels"),
        ("c.tif", 2, "pages differ in size or channels (4 x 5 and 5 x 4"),
    ):
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / name, channels)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "plain.tif"])
def test_damaged_files_are_refused_or_read_and_never_crash(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, array = tmp_path / name, noise(12, 11, 5)
    if name == "a.npy":
        np.save(path, array)
    elif name == "a.tif":
        pages(path, [array[..., c] for c in range(5)], compression="tiff_lzw")
    else:
        plain_tiff(path, array)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    refused = []
    for i in range(150):
        data = np.frombuffer(content, np.uint8).copy()
        data[rng.integers(0, min(len(data), 200), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(data.tobytes() if i % 2 else content[: rng.integers(0, len(content))])
        try:
            read_image(path, 5)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in refused)
    assert capfd.readouterr() == ("", ""), "the TIFF library says nothing by itself"


def test_arrays_are_found_in_folders(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(3, 4, 5))
    (tmp_path / "b.npz").touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.npy"]


# on their way to the network


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Two classes of stacks of five channels, 8 bits and 16."""
    for c, name in enumerate(("dark", "light")):
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / name / f"{i}.npy", noise(20, 24, 5, seed=10 * c + i) // 2 + np.uint8(100 * c))
        np.save(tmp_path / name / "deep.npy", noise(5, 20, 24, dtype=np.uint16, seed=c))
    return tmp_path


def test_a_folder_of_stacks(stacks: Path) -> None:
    dataset = ImageFolder(stacks, 5)
    for index, dtype in ((0, torch.uint8), (3, torch.float32)):
        image, target = dataset.read(index)
        tensor, again = dataset.read_tensor(index)
        assert isinstance(image, np.ndarray)
        assert (tensor.shape, tensor.dtype, again) == ((5, 20, 24), dtype, target)
        np.testing.assert_array_equal(tensor.numpy(), image.transpose(2, 0, 1))
        assert dataset[index][0].shape == (5, 20, 24)
    with pytest.raises(InputError, match="holds 5 channels, but the model takes 4"):
        ImageFolder(stacks, 4).read(0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_channels_are_resized_as_images_are(interpolation: str) -> None:
    array = noise(50, 70, 6) // 2 + np.uint8(60)  # bytes would be cut off where the filters overshoot
    many = Preprocess((32, 24), 0.9, interpolation, (0.5,) * 6, (0.25,) * 6)
    one = Preprocess((32, 24), 0.9, interpolation, (0.5,), (0.25,))
    pixels = many.pixels(array)
    assert (pixels.shape, pixels.dtype) == ((6, 32, 24), np.uint8)
    for c in range(6):
        np.testing.assert_array_equal(pixels[c], one.pixels(Image.fromarray(array[..., c]))[0])
    floats = many.pixels(array.astype(np.float32))
    assert floats.dtype == np.float32
    assert np.abs(floats - pixels).max() <= 1.3  # both passes round to whole grey values, and filters weigh beyond 1


def test_16_bits_keep_what_8_bits_lose() -> None:
    values = np.full((40, 40, 2), 25_700, np.uint16)  # 100.39 of 256
    values[..., 1] += 1
    preprocess = Preprocess((8, 8), mean=(0.5, 0.5), std=(0.25, 0.25))
    pixels = preprocess.pixels(to_pixels(values))
    assert pixels[0, 0, 0] == pytest.approx(25_700 / 256, abs=1e-4)
    assert (pixels[1] - pixels[0]).min() > 0.003  # 1 / 256


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_arithmetic_for_numpy_and_torch(dtype: Any) -> None:
    preprocess = Preprocess((8, 8), mean=(0.1, 0.2, 0.3, 0.4), std=(0.2, 0.3, 0.4, 0.5))
    pixels = noise(2, 4, 8, 8).astype(dtype)
    by_torch = Normalize(preprocess)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(preprocess.normalize(pixels), by_torch, atol=1e-6)  # float32, in another order
    tensor, _ = EvalTransform(preprocess)(noise(12, 14, 4).astype(dtype), 0)  # type: ignore[arg-type]
    assert (tensor.shape, tensor.numpy().dtype) == ((4, 8, 8), dtype)


def test_open_images_meet_models_of_many_channels() -> None:
    array = noise(8, 8, 4)
    np.testing.assert_array_equal(to_channels(Image.fromarray(array), 4), array)
    for wrong in (Image.fromarray(array[..., :3]), array[..., :3], array[..., 0], array[:0]):
        with pytest.raises(InputError, match="the model takes"):
            to_channels(wrong, 4)


def test_prediction_from_arrays_and_files(tmp_path: Path) -> None:
    shapes = []

    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        shapes.append((batch.shape, batch.dtype))
        return batch.mean((2, 3))

    classes = Classes.of(f"channel {c}" for c in range(5))
    predictor = Predictor(
        Bundle.single("classify", "x", classes, Preprocess((16, 16), mean=(0.5,) * 5, std=(0.5,) * 5)), engine
    )
    array = noise(30, 20, 5) // 4
    array[..., 3] += 150
    np.save(tmp_path / "a.npy", array)
    given = [tmp_path / "a.npy", array, array.astype(np.uint16) * 256, array.astype(np.float32), array.astype(float)]
    for result in predictor.predict(given):
        assert result.rows()[0]["name"] == "channel 3"
    assert shapes == [((5, 5, 16, 16), np.float32)]
    for wrong in (array[..., :4], array[..., 0], np.zeros((4, 4, 5), complex)):
        with pytest.raises(InputError):
            predictor.predict(wrong)


def test_a_view_for_people() -> None:
    array = noise(6, 7, 5)
    np.testing.assert_array_equal(np.asarray(as_view(array)), array[..., :3])
    assert np.unique(np.asarray(as_view(noise(6, 7, 2, dtype=np.float32)))).tolist()[:: 10**6] == [0]
    assert np.asarray(as_view(np.zeros((3, 3, 4), np.float32))).max() == 0
    assert as_view(Image.new("L", (3, 4), 7)).getpixel((0, 0)) == (7, 7, 7)


# statistics


def test_statistics_of_the_channels(stacks: Path) -> None:
    dataset = ImageFolder(stacks, 5)
    mean, std = channel_statistics(dataset)
    # every image has the same size, so that all pixels together are the same as the images' mean
    pixels = np.stack([np.asarray(dataset.read(i)[0], np.float64) for i in range(len(dataset))]).reshape(-1, 5) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-9)
    assert Preprocess(mean=mean, std=std).channels == 5
    of_three = channel_statistics(dataset, 3)
    assert of_three == channel_statistics(dataset, 3) != (mean, std)


def test_statistics_of_flat_and_broken_images(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", np.stack([np.full((4, 4), 0.1), np.zeros((4, 4))], -1))
        (tmp_path / name / "1.npy").write_bytes(b"broken")
    dataset = ImageFolder(tmp_path, 2)
    mean, std = channel_statistics(dataset)
    assert mean == pytest.approx((0.1 / 255, 0))
    assert std == (1, 1)
    for name in "ab":
        (tmp_path / name / "0.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"no image could be read .*\.npy: not an image"):
        channel_statistics(dataset)


def test_tensors_may_be_written_to() -> None:
    array = np.frombuffer(bytes(60), np.uint8).reshape(5, 3, 4)
    to_tensor(np.moveaxis(array, 0, -1)).add_(1)
    assert array.max() == 0
