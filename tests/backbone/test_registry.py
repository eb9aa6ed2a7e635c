"""Creating models by name: error messages name what is missing."""

from pathlib import Path

import pytest
import timm

from fishnet.backbone.registry import create_model
from fishnet.errors import WorkError


def test_a_missing_checkpoint_is_no_failed_download(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):  # timm logs the name
        create_model("fishnet_nano", checkpoint_path=str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("message", ["", "no connection\nand more"])
def test_weights_that_cannot_be_fetched_are_one_line(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError(message)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WorkError, match=r"resnet18: could not download its weights \((OSError|no connection)\)$"):
        create_model("resnet18", pretrained=True)
