"""``pretrained=True``: fishnet150 loads a file:// copy in pytorchcv's layout; other variants raise one line."""

import hashlib
import logging
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from fishnet.backbone import SPECS, FishNet
from fishnet.backbone.weights import to_native
from fishnet.errors import InputError, WorkError
from fishnet.weights import weight_names
from tests.backbone.helpers import VARIANTS, filled, image

pytorchcv = pytest.importorskip("pytorchcv.models.fishnet", reason="pytorchcv is not installed")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return filled(pytorchcv.fishnet150())


@pytest.fixture(scope="module")
def archive(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file: a zip of NAME-<hash>.pth, named with the hash of its member."""
    buffer = BytesIO()
    torch.save(theirs.state_dict(), buffer)
    content = buffer.getvalue()
    name = f"fishnet150-0000-{hashlib.sha1(content).hexdigest()[:8]}.pth"
    path = tmp_path_factory.mktemp("published") / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(name, content)
    return path


def create(path: Path, cache: Path, **kwargs: Any) -> Any:
    overlay = {"url": path.as_uri(), "custom_load": True}
    return timm.create_model(
        "fishnet150", pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=cache, **kwargs
    ).eval()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@torch.no_grad()
def test_from_url(theirs: Any, archive: Path, cache: Path) -> None:
    model = create(archive, cache)
    for key, value in to_native(theirs.state_dict()).items():
        assert torch.equal(model.state_dict()[key], value), key
    assert (cache / archive.name).is_file()


@torch.no_grad()
def test_features_only(theirs: Any, archive: Path, cache: Path) -> None:
    features = create(archive, cache, features_only=True, out_indices=(0, 2))
    whole = FishNet(SPECS["fishnet150"]).eval()
    whole.load_state_dict(theirs.state_dict())
    x = image(1, 3, 64, 64)
    wanted = whole.forward_stages(x, ["body.2", "head.1"])
    assert all(torch.equal(a, b) for a, b in zip(features(x), wanted.values(), strict=True))


@torch.no_grad()
def test_other_classes_channels_and_end(
    theirs: Any, archive: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = create(archive, cache, num_classes=5, in_chans=1, end="body")
    text = caplog.text
    assert "input convolution adapted from 3 to 1 channels" in text
    assert "this trunk ends with the body" in text
    native = to_native(theirs.state_dict())
    assert torch.allclose(model.stem[0].conv.weight, native["stem.0.conv.weight"].sum(1, keepdim=True), atol=1e-6)
    for key, value in model.state_dict().items():
        if not key.startswith(("score.", "stem.0.conv.")):
            assert torch.equal(value, native[key]), key
    assert model(image(1, 1, 64, 64)).shape == (1, 5)


def test_a_wrong_hash_is_refused(archive: Path, cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "fishnet150-0000-0000dead.pth.zip"
    broken.write_bytes(archive.read_bytes())
    with pytest.raises(InputError, match=r"SHA-1 begins with [0-9a-f]{8}, not 0000dead") as refusal:
        create(broken, cache)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("overlay", [{}, {"custom_load": True}])
def test_file_overlay(theirs: Any, archive: Path, overlay: dict[str, Any]) -> None:
    model = timm.create_model(
        "fishnet150", pretrained=True, pretrained_cfg_overlay={"file": str(archive), **overlay}, num_classes=3
    )
    native = to_native(theirs.state_dict())
    assert torch.equal(model.head[2].refine[0].conv2.weight, native["head.2.refine.0.conv2.weight"])
    assert model.get_classifier().weight.shape == (3, 1056)


def test_a_file_of_another_net_is_refused_though_the_classes_differ(theirs: Any, archive: Path) -> None:
    """timm's own loader would not be strict here, and would silently load half a network."""
    with pytest.raises(InputError, match=r"does not fit this model: \d+ unexpected"):
        timm.create_model("fishnet99", pretrained=True, pretrained_cfg_overlay={"file": str(archive)}, num_classes=3)


def test_no_connection_is_one_line(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"could not download file://.*checkpoint_path") as refusal:
        create(tmp_path / "nowhere-00000000.pth.zip", cache)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("fishnet150", *weight_names())])
@pytest.mark.parametrize("kwargs", [{}, {"features_only": True}, {"pretrained_cfg_overlay": {"num_classes": 5}}])
def test_elsewhere_one_line_tells_which_nets_have_weights(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refusal:
        timm.create_model(name, pretrained=True, **kwargs)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith(f"no published weights for {name}: use fishnet150")
    assert "docs/weights.md" in message


def test_the_registered_url_carries_its_hash() -> None:
    cfg = timm.get_pretrained_cfg("fishnet150")
    assert cfg is not None
    assert cfg.tag == "pytorchcv_in1k"
    assert cfg.url is not None
    assert cfg.url.endswith("/fishnet150-0475-93e26daa.pth.zip")
    assert cfg.custom_load is True
