"""What prediction takes beside paths: bytes, open files, tensors; and the georeference that masks keep."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.cli import main
from fishnet.errors import InputError
from fishnet.images.geo import TAGS, georeference, save_georeferenced
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from tests.hostile.images import saved
from tests.hostile.tiny import tiny
from tests.makers import image


def predictor(channels: int = 3) -> Predictor:
    """A classifier whose scores are the channels' means."""
    preprocess = Preprocess((16, 16), mean=(0.5,) * channels, std=(0.5,) * channels)
    bundle = Bundle.single("classify", "none", Classes.of(f"c{i}" for i in range(channels)), preprocess)
    return Predictor(bundle, lambda batch: batch.mean((2, 3)))


IMAGE = image("green", 0)
CONTENT = saved(IMAGE, "PNG")
PIXELS = np.array(IMAGE)
CHANNELS_FIRST = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())


@pytest.mark.parametrize(
    "given",
    [CONTENT, bytearray(CONTENT), memoryview(CONTENT), io.BytesIO(CONTENT), CHANNELS_FIRST,
     torch.from_numpy(PIXELS).permute(2, 0, 1),
     torch.nn.Parameter(CHANNELS_FIRST, requires_grad=False)],
)  # fmt: skip
def test_every_way_to_give_an_image(given: Any) -> None:
    model = predictor()
    expected = model.predict(IMAGE).to_dict()
    if isinstance(given, io.BytesIO):
        given.seek(0)
    assert model.predict(given).to_dict() == expected
    if isinstance(given, io.BytesIO):
        given.seek(0)
    (one,) = model.predict([given])
    assert one.to_dict() == expected


def test_a_batch_of_tensors_is_several_images() -> None:
    model = predictor()
    results = model.predict(torch.stack([CHANNELS_FIRST, 255 - CHANNELS_FIRST]))  # type: ignore[call-overload]
    assert results[0].rows()[0]["name"] == "c1"
    assert len(results) == 2


def test_grey_and_many_channels() -> None:
    grey = torch.zeros((1, 20, 20), dtype=torch.uint8)
    assert predictor().predict(grey).rows()
    assert predictor(1).predict(grey[0]).rows()
    five = torch.zeros((5, 20, 20))
    five[3] = 200
    assert predictor(5).predict(five).rows()[0]["name"] == "c3"


def test_an_open_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    with (tmp_path / "a.png").open("rb") as file:
        assert predictor().predict(file).rows()[0]["name"] == "c1"


@pytest.mark.parametrize(
    ("given", "words"),
    [(b"no image", "the image: not an image"), (b"", "the image: not an image that can be read: the file is empty"),
     (io.StringIO("text"), "open it with mode 'rb'"), (torch.zeros((3, 8, 8)), "float32"),
     (torch.zeros(8, dtype=torch.uint8), r"shape \(8,\)"), (torch.zeros((3, 8, 8), dtype=torch.bfloat16), "bfloat16"),
     (torch.zeros((4, 8, 8), dtype=torch.uint8), "uint8 and shape"),
     (7, "int is not an image: give a path, an address"), (None, "NoneType is not an image"),
     ([3.5], "float is not an image")],
)  # fmt: skip
def test_what_is_no_image(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        predictor().predict(given)


GEO = {
    33550: (12, (0.1, 0.1, 0.0)),
    33922: (12, (0.0, 0.0, 0.0, 440720.1234567891, 3751320.0000000005, 0.0)),
    34735: (3, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)),
    34736: (12, (6378137.0, 298.257223563)),
    34737: (2, "WGS 84 / UTM zone 33N|"),
}


def geotiff(path: Path, image: Image.Image, tags: dict[int, Any] = GEO) -> Path:
    """A georeferenced file, with GDAL's metadata and no-data value."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in {**tags, 42112: (2, "<GDALMetadata/>"), 42113: (2, "-9999")}.items():
        info.tagtype[tag], info[tag] = kind, value
    image.save(path, tiffinfo=info)
    return path


MATRIX = {34264: (12, tuple(0.1 * i for i in range(16))), 34735: GEO[34735]}


class TestGeoreference:
    """Masks of GeoTIFF files are GeoTIFF files with the same tags, bit by bit."""

    @pytest.mark.parametrize("tags", [GEO, MATRIX])
    @pytest.mark.parametrize("values", [np.eye(40, 60, dtype=np.uint8), np.full((40, 60), 700, np.uint16)])
    def test_written_and_read(self, tags: dict[int, Any], values: np.ndarray, tmp_path: Path) -> None:
        source = georeference(geotiff(tmp_path / "a.tif", image("red", 0, (60, 40)), tags))
        assert source is not None
        assert source.keys() == tags.keys()
        assert source.keys() <= set(TAGS)
        mask = Image.fromarray(values)
        if values.dtype == np.uint8:
            mask.putpalette([1, 2, 3] * 256)
        save_georeferenced(mask, tmp_path / "m.tif", source)
        assert georeference(tmp_path / "m.tif") == source
        with Image.open(tmp_path / "m.tif") as written:
            np.testing.assert_array_equal(np.asarray(written), values)
            for tag, (_, value) in tags.items():
                assert written.tag_v2[tag] == value  # type: ignore[attr-defined]

    def test_files_without(self, tmp_path: Path) -> None:
        image("red", 0).save(tmp_path / "a.png")
        image("red", 0).save(tmp_path / "a.tif")
        assert georeference(tmp_path / "a.png") is None
        assert georeference(tmp_path / "a.tif") is None

    @pytest.mark.parametrize("flags", [[], ["--tile", "64"]])
    def test_by_the_command_line(self, flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        field_file = geotiff(tmp_path / "field.tif", image("red", 3, (150, 100)))
        image("blue", 4, (150, 100)).save(tmp_path / "plain.tif")
        turned = geotiff(tmp_path / "turned.tif", image("red", 3, (150, 100)), {**GEO, 274: (3, 3)})
        out = tmp_path / "out"
        sources = [str(field_file), str(tmp_path / "plain.tif"), str(turned)]
        assert main(["predict", tiny(tmp_path, "segment"), *sources, "--out", str(out), *flags]) == 0
        assert sorted(path.name for path in (out / "masks").iterdir()) == ["field.tif", "plain.png", "turned.png"]
        assert georeference(out / "masks" / "field.tif") == georeference(field_file)
        with Image.open(out / "masks" / "field.tif") as mask:
            assert mask.size == (150, 100)
            assert (np.asarray(mask) == 3).mean() > 0.9, "red's own id"
            assert 42113 not in mask.tag_v2  # type: ignore[attr-defined]
        assert "turned.tif: is turned by its orientation tag" in capfd.readouterr().err
