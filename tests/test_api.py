"""The Python face: what the command line does, by keyword, from a script."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fishnet
from fishnet.errors import InputError
from tests.makers import CLASSES, image

SETTINGS = {"backbone": "fishnet_nano", "size": 32, "batch_size": 8, "device": "cpu", "epochs": 1}

SCRIPT = """
import json, multiprocessing, sys
multiprocessing.set_start_method(sys.argv[3], force=True)
import fishnet
settings = {"quiet": True, "workers": 1, "log": lambda line: None, **{settings!r}}
trained = fishnet.train("classify", sys.argv[1], out=sys.argv[2], **settings)
result = fishnet.evaluate(trained.bundle, sys.argv[1], device="cpu")
print(json.dumps([str(trained.bundle), trained.epoch, result.split, sorted(result.metrics)]))
"""


@pytest.mark.slow
def test_train_evaluate_export_and_load(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    trained = fishnet.train(
        "classify", folder, out=tmp_path / "run", workers=0, quiet=True, log=lines.append, **SETTINGS
    )
    assert (trained.bundle, trained.epoch, trained.recipe.epochs) == (tmp_path / "run", 1, 1)
    assert any("3 classes" in line for line in lines)
    result = fishnet.evaluate(trained.bundle, folder, split="all", workers=0, device="cpu")
    assert result.images == 24
    exported = fishnet.export(trained.bundle, images=[str(folder / "red")])
    assert exported.path == tmp_path / "run" / "model.onnx"
    ours, theirs = (
        fishnet.load(place, "cpu").predict(image("red", 3), k=3) for place in (trained.bundle, exported.path)
    )
    assert {row["name"] for row in ours.rows()} == set(CLASSES)
    scores = [{row["name"]: row["score"] for row in one.rows()} for one in (ours, theirs)]
    for name in CLASSES:
        assert scores[0][name] == pytest.approx(scores[1][name], abs=1e-4)
    again = fishnet.train("classify", folder, resume=trained.bundle, epochs=2, quiet=True, log=lines.append)
    assert again.recipe.epochs == 2


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="unknown key 'epoch': did you mean epochs"):
        fishnet.train("classify", "nowhere", epoch=3)
    with pytest.raises(InputError, match="unknown task 'clasify'"):
        fishnet.train("clasify", "nowhere")
    with pytest.raises(InputError, match="skip_findings box-tinny: no finding has this code: did you mean box-tiny"):
        fishnet.train("detect", "nowhere", skip_findings="box-tinny")
    with pytest.raises(InputError, match="size: resume continues the training in"):
        fishnet.train("classify", "nowhere", resume="somewhere", size=64)


def run_script(folder: Path, out: Path, method: str) -> subprocess.CompletedProcess[str]:
    file = out.parent / f"{method}.py"
    file.write_text(SCRIPT.replace("{settings!r}", repr(SETTINGS)))
    words = [sys.executable, str(file), str(folder), str(out), method]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forking is Linux's way")
def test_a_script_without_a_main_guard(folder: Path, tmp_path: Path) -> None:
    """Forked workers do not run it again."""
    done = run_script(folder, tmp_path / "run", "fork")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(tmp_path / "run"), 1, "val", ["ECE", "acc@1"]]


@pytest.mark.slow
def test_a_script_that_workers_would_run_again_is_told_so(folder: Path, tmp_path: Path) -> None:
    done = run_script(folder, tmp_path / "run", "spawn")
    assert done.returncode != 0
    assert 'put the call below `if __name__ == "__main__":`, or read with workers=0' in done.stderr


def test_inputs_of_every_kind(bundle: Path, tmp_path: Path) -> None:
    """A path, its bytes, an image and an array of one photo give the same scores."""
    photo = image("red", 5)
    photo.save(tmp_path / "photo.png")
    predictor = fishnet.load(bundle, "cpu")
    inputs = [tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes(), photo, np.asarray(photo)]
    results = [predictor.predict(one, k=3).rows() for one in inputs]
    assert all(rows == results[0] for rows in results)
