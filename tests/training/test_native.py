"""Segmenters of images in their own size, and of images that are not there: what a training meets of sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fishnet.bundle.bundle import read_bundle
from fishnet.evaluation.evaluate import evaluate
from fishnet.training.module import TrainingModule
from tests.conftest import Run
from tests.segmentation_makers import mask_folder, save_mask, scene
from tests.training.runs import spied
from tests.training.test_segmentation import small, trains


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Eight images to train with; three to validate with, of three sizes."""
    data = mask_folder(tmp_path / "scenes", train=8, val=3)
    for number, size in enumerate(((96, 80), (200, 64), (64, 150))):
        it = scene(50 + number, size)
        it.image.save(data / "val/images" / f"{number:03}.png")
        save_mask(data / "val/masks" / f"{number:03}.png", it.labels, "index")
    return data


def test_training_validates_as_val_does(uneven: Path, run: Run, tmp_path: Path) -> None:
    """One image at a time: none is padded to another's size, and the figures agree exactly."""
    shapes: list[tuple[int, ...]] = []
    with spied(TrainingModule, "validation_step", lambda self, batch, number: shapes.append(tuple(batch.images.shape))):
        trains(run, uneven, tmp_path / "out", "--native")
    assert shapes == [(1, 3, 96, 96), (1, 3, 64, 224), (1, 3, 160, 64)]
    import fishnet

    predictor = fishnet.load(tmp_path / "out", "cpu")
    assert predictor.batch_size == 1
    kept = read_bundle(tmp_path / "out").metrics
    measured = evaluate(predictor, str(uneven), split="val", workers=0).metrics
    assert {name: measured[name] for name in ("mIoU", "mAcc", "aAcc")} == pytest.approx(
        {name: kept[name] for name in ("mIoU", "mAcc", "aAcc")}, abs=1e-3
    )
    together = evaluate(predictor, str(uneven), split="val", workers=0, batch_size=3).metrics
    assert together == pytest.approx(measured, abs=1e-3)


def test_a_image_too_large_to_validate_whole(
    uneven: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fishnet.tasks.segmentation.task.LARGEST", 100 * 100)
    code, _, err = run("train", "segment", uneven, "--out", tmp_path / "out", *small("--native"))
    assert code == 2
    assert err.count("\n") == 1
    assert "val/images/001.png: is 200x64 px: with native, training validates whole images" in err
    assert not (tmp_path / "out").exists()
    code, _, err = run("train", "segment", uneven, "--out", tmp_path / "out", *small("--epochs", 1))
    assert code == 0, err  # resized, it is not too large


@pytest.mark.parametrize("head", ["upernet", "deeplabv3plus"])
def test_a_broken_image_leaves_one_where_two_are_needed(head: str, run: Run, tmp_path: Path) -> None:
    """Batch norms of pooled features have nothing to learn from one image: that step is left out."""
    data = mask_folder(tmp_path / "scenes", train=4, val=2)
    (data / "train/images/001.png").write_bytes(b"no image")
    said = trains(
        run, data, tmp_path / "out", "--head", head, "--head-norm", "batch", "--batch-size", 2, "--on-error", "skip"
    )
    assert "train/images/001.png" in said
    state = torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())


def test_scores_that_are_no_numbers(run: Run, tmp_path: Path) -> None:
    """Prediction refuses them in every way, as val does: a map of the first class alone would look like one."""
    data = mask_folder(tmp_path / "scenes", train=6, val=2)
    trains(run, data, tmp_path / "out")
    import fishnet
    from fishnet.errors import WorkError

    predictor: Any = fishnet.load(tmp_path / "out", "cpu")
    predictor.engine.model.only_head[1].scores.bias.data[1] = torch.nan
    image = np.asarray(Image.open(data / "val/images/000.png"))
    for options in ({}, {"tta": True}, {"tile": 64}):
        with pytest.raises(WorkError, match="not finite"):
            predictor.predict(image, **options)
