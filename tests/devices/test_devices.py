"""Every task computes, trains and resumes on a GPU as it does on the CPU.

The cases of the GPU are marked ``gpu`` and are skipped without one: ``pytest -m gpu tests/devices``. Those of the CPU
compare channels last, which engines and trainings use, with torch's default layout.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fishnet.tasks.engine import TorchEngine, to_numpy
from fishnet.training.checkpoints import Resumed
from fishnet.training.history import read_history
from fishnet.training.jobs import single_job
from fishnet.training.module import moved, total
from fishnet.training.plan import Plan, make_plan
from fishnet.training.processes import find_processes
from tests.conftest import Run, fast
from tests.detection_makers import coco_folder
from tests.exporting.models import made
from tests.makers import image_folder
from tests.segmentation_makers import mask_folder
from tests.training.runs import STEPS, last
from tests.training.test_resume import _interruptible, at_step, interrupt  # noqa: F401  # a fixture

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
HEADS = [
    ("classify", "linear"),
    ("detect", "faster-rcnn"),
    ("detect", "retinanet"),
    ("detect", "fcos"),
    ("instances", "mask-rcnn"),
    ("instances", "htc"),
    ("segment", "body"),
    ("segment", "fish"),
]
TASKS = [("classify", "linear"), ("detect", "retinanet"), ("instances", "mask-rcnn"), ("segment", "body")]


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions on GPUs keep 10 of float32's 23 bits by default (TF32), which no tolerance here allows for."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def images_of(count: int = 2) -> torch.Tensor:
    """Normalized images with large and small structures."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 3, 12, 20, generator=generator)
    return torch.nn.functional.interpolate(coarse, (96, 160), mode="bilinear") + 0.1 * torch.randn(
        count, 3, 96, 160, generator=generator
    )


def assert_same_outputs(one: Any, other: Any, share: float) -> None:
    """Compares logits to a share of their range, and objects by their number, sorted scores and mean box."""
    if isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert len(left["scores"]) == len(right["scores"]) > 0
            np.testing.assert_allclose(np.sort(left["scores"]), np.sort(right["scores"]), atol=share)
            np.testing.assert_allclose(left["boxes"].mean(0), right["boxes"].mean(0), atol=160 * share)
    else:
        np.testing.assert_allclose(one, other, rtol=0, atol=share * float(np.ptp(other)))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("task", "head"), HEADS)
def test_outputs(task: str, head: str, device: str) -> None:
    bundle, model = made(task, head)
    images = images_of()
    with torch.inference_mode():
        expected = to_numpy(model.to(memory_format=torch.contiguous_format)(images))
    expected = next(iter(expected.values())) if isinstance(expected, dict) else expected
    found = TorchEngine(bundle, model, device)(images.numpy())
    assert_same_outputs(found, expected if isinstance(found, np.ndarray) else list(expected), 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize(("task", "head"), HEADS)
def test_outputs_in_bf16(task: str, head: str) -> None:
    """bf16 has 8 bits; which of a random model's objects survive depends on them, so only logits are compared."""
    bundle, model = made(task, head)
    images = images_of().numpy()
    half, whole = TorchEngine(bundle, model, "cuda", "bf16")(images), TorchEngine(bundle, model, "cuda")(images)
    if isinstance(whole, np.ndarray):
        assert 0 < np.abs(half - whole).max() <= 0.05 * np.ptp(whole)
    else:
        assert all(np.isfinite(one["boxes"]).all() and len(one["boxes"]) for one in half)


@pytest.mark.gpu
@pytest.mark.parametrize(("task", "head"), [("classify", "linear"), ("segment", "body")])
def test_compiled_models(task: str, head: str) -> None:
    _, model = made(task, head)
    model, images = model.cuda().to(memory_format=torch.channels_last), images_of().cuda()
    with torch.inference_mode():
        expected = to_numpy(model(images))
    with torch.no_grad():
        assert_same_outputs(to_numpy(torch.compile(model)(images)), expected, 1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small datasets by task. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("data")
    objects = str(coco_folder(root / "objects", train=6, val=4))
    maps = mask_folder(root / "maps", train=6, val=4)
    return {
        "classify": str(image_folder(root / "classes")),
        "detect": objects,
        "instances": objects,
        "segment": str(maps),
    }


def settings_of(task: str, head: str, device: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "backbone": "fishnet_nano", "size": 64, "batch_size": 4, "workers": 0, "device": device, "head": head,
        "precision": "fp32", "epochs": 2, "warmup_epochs": 0.5,
    }  # fmt: skip
    if task in ("detect", "instances"):
        settings |= {"max_size": 96, "fpn_channels": 64, "box_width": 32, "proposals": 60, "roi_samples": 32}
    return settings


def plan_of(task: str, head: str, data: str, device: str) -> Plan:
    job = single_job(task, data, None, None, settings_of(task, head, device))
    return make_plan(job.make_task(), job.data, job.recipe, find_processes(job.recipe), Resumed(), None, None, _ignore)


def _ignore(_line: str) -> None:
    """Leaves out what a training prints at its start."""


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("task", "head"), TASKS)
def test_a_training_step(task: str, head: str, device: str, data: dict[str, str]) -> None:
    """The loss, its gradients and the weights after a step of SGD, from the same weights and batch.

    Detectors draw their samples on the device, whose random numbers differ; without a limit they draw none.
    """
    steps = []
    for place, layout in (("cpu", torch.contiguous_format), (device, torch.channels_last)):
        plan = plan_of(task, head, data[task], place)
        module, batch = plan.module.train().to(place), next(iter(plan.train))
        for part in module.modules():
            sampler = getattr(part, "fg_bg_sampler", None)
            if sampler is not None:
                sampler.batch_size_per_image = 100_000
        module.model.to(memory_format=layout)
        images, targets = module.prepare(batch.images.to(place), moved(batch.targets, place))
        torch.manual_seed(0)
        loss = total(module.criterion(module.outputs(module.model, images, targets), targets))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer = torch.optim.SGD(module.model.parameters(), 0.01)
        gradients = torch.stack([p.grad.norm() for p in module.model.parameters() if p.grad is not None]).cpu()
        optimizer.step()
        weights = torch.cat([p.detach().flatten() for p in module.model.parameters()]).cpu()
        steps.append((loss.item(), gradients, weights))
    (loss, gradients, weights), (other_loss, other_gradients, other_weights) = steps
    assert other_loss == pytest.approx(loss, rel=1e-3)
    torch.testing.assert_close(other_gradients, gradients, rtol=0.05, atol=0.01 * float(gradients.max()))
    torch.testing.assert_close(other_weights, weights, rtol=1e-2, atol=1e-3)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_an_interrupted_training_resumes(
    device: str, data: dict[str, str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if in one go, to what sums without a fixed order leave on GPUs; on the CPU bit for bit (tests/training)."""
    whole, part, words = tmp_path / "whole", tmp_path / "part", ["train", "classify", data["classify"]]
    flags = fast("--device", device, "--epochs", 2, "--lr", 0.01, "--precision", "fp32")
    assert run(*words, "--out", whole, *flags)[0] == 0
    with monkeypatch.context() as patch:
        at_step(STEPS + 1, patch, interrupt)
        assert run(*words, "--out", part, *flags)[0] == 130
    assert run(*words, "--resume", part, "--quiet")[0] == 0
    one, other = (read_history(folder / "history.csv") for folder in (whole, part))
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for name in ("train/loss", "val/loss", "lr"):
        found = [float(row[name]) for row in other if row[name]]
        assert found == pytest.approx([float(row[name]) for row in one if row[name]], rel=0.02), name
    states = [last(folder)["state_dict"] for folder in (whole, part)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].float(), value.float(), rtol=0.02, atol=1e-3)


@pytest.mark.gpu
def test_a_training_in_bf16_is_the_default(data: dict[str, str], run: Run, tmp_path: Path) -> None:
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    words = ["train", "segment", data["segment"], "--out", tmp_path / "out"]
    flags = ["--backbone", "fishnet_nano", "--size", 64, "--batch-size", 4, "--workers", 0, "--epochs", 1]
    code, text, err = run(*words, *flags, "--device", "cuda")
    assert code == 0, err
    assert "precision: bf16" in text
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["precision"] == "bf16"
