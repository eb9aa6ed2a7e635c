"""What a benchmark is made of, without measuring anything: nobody knows how fast a machine with tests on it is."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.analysis.benchmark.engines import PEAKS, step_of
from fishnet.analysis.benchmark.measured import Benchmark, Row
from fishnet.analysis.benchmark.plan import ENGINES, Plan, Subject, names_of
from fishnet.analysis.benchmark.run import compared
from fishnet.analysis.benchmark.turns import Child, take_turns
from fishnet.errors import InputError, WorkError
from fishnet.tasks import task_names
from tests.exporting.models import bundle_of_set

SUBJECT = Subject("fishnet_nano", "classify", "default", 64, 64, 3, 2)


def row(engine: str, *seconds: float) -> Row:
    return Row(SUBJECT, engine, seconds, tuple(range(len(seconds))), 1, 10**8, 10**9)


def found(*rows: Row) -> Benchmark:
    plan = Plan(("fishnet_nano",), tuple(row.engine for row in rows), threads=1, rounds=len(rows[0].seconds))
    machine = {"cpu": "a processor", "cores": 2, "vectors": "avx2", "load_average": [0.5, 1.25], "versions": {"a": "1"}}
    return Benchmark(
        plan, compared(list(rows), plan, 1e11), ("fishnet_nano compile: why",), {"sgemm-numpy": 1e11}, machine
    )


def test_ratios_shares_and_spread_by_hand() -> None:
    it = found(row("eager", 0.1, 0.2, 0.4), row("onnx", 0.05, 0.05, 0.06))
    assert [row.ratio for row in it.rows] == pytest.approx([1.0, 4.0])  # medians of 0.2 and 0.05 s
    assert [row.share for row in it.rows] == pytest.approx([0.2, 0.8])  # 2 images of 2 GFLOP, of 100 GFLOP/s
    first = it.to_dict()["rows"][0]
    assert first["images_per_second"] == pytest.approx(10)
    assert first["ms"] == pytest.approx(
        {"median": 200, "lower_quartile": 150, "upper_quartile": 300, "min": 100, "max": 400}
    )


def test_compared_with_another_row() -> None:
    rows = [row("eager", 0.2), row("onnx", 0.05)]
    plan = Plan(("fishnet_nano",), ("eager", "onnx"), baseline="onnx")
    assert [row.ratio for row in compared(rows, plan, 1e11)] == pytest.approx([0.25, 1.0])


def test_the_table_says_all(tmp_path: Path) -> None:
    it = found(row("eager", 0.1, 0.2, 0.4), row("onnx", 0.05, 0.05, 0.06))
    lines = it.lines()
    for word in ("fishnet_nano", "onnx", "50.00", "40.00", "4.00", "100 MB", "1.000", "80.0 %"):
        assert word in lines[2], word
    assert "a processor, 2 cores (avx2); load average 0.50 before, 1.25 after" in lines
    assert "100.0 GFLOP/s" in "\n".join(lines)
    files = it.write(tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["results.json", "benchmark.png"]
    assert json.loads(files[0].read_text())["left_out"] == ["fishnet_nano compile: why"]
    with Image.open(files[1]) as image:
        assert np.asarray(image.convert("L")).std() > 10, "there is something on it"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"engines": ("egaer",)}, "unknown engine 'egaer': did you mean eager"),
        ({"engines": ()}, "give a model and an engine"),
        ({"baseline": "onnx", "engines": ("eager",)}, "baseline=onnx: must be one of the engines: eager"),
        ({"task": "segmnt"}, "did you mean segment"),
        ({"rounds": 0}, "rounds=0: must be 1 or more"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"threads": 0}, "threads=0"),
        ({"batch": 0}, "batch=0"),
        ({"size": 32}, "size=32: must be 64 or more"),
    ],
)
def test_wrong_plans(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(("fishnet9",)), "unknown backbone 'fishnet9': did you mean fishnet99"),
        (
            Plan(("fishnet_nano",), task="detect", head="retina"),
            "unknown head 'retina' for detect: did you mean retinanet",
        ),
        (Plan(("fishnet_nano",), task="segment", size=100), "size=100: segment needs a multiple of 32"),
    ],
)
def test_wrong_models(plan: Plan, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan.subjects()


def test_a_bundle_has_its_own_task_and_size(bundle: Path) -> None:
    (it,) = Plan((str(bundle),)).subjects()
    assert (it.task, it.height, it.width, it.named) == ("classify", 32, 32, False)
    assert it.build()[0].backbone == "fishnet_nano"
    with pytest.raises(InputError, match="this bundle is for classify, not detect: leave out task"):
        Plan((str(bundle),), task="detect").subjects()


def test_a_bundle_of_several_heads_is_one_subject(tmp_path: Path) -> None:
    """One pass computes all heads, at the size of the heads that keep an image's proportions."""
    (it,) = Plan((str(bundle_of_set(tmp_path / "run", "two-stage")),)).subjects()
    assert (it.task, it.head) == ("classify, detect, segment", "default, faster-rcnn, body")
    assert (it.height, it.width) == (640, 640)
    with pytest.raises(InputError, match="this bundle is for classify, detect, segment, not detect: leave out task"):
        Plan((it.model,), task="detect").subjects()
    with pytest.raises(InputError, match="with the heads default, faster-rcnn, body: leave out head"):
        Plan((it.model,), head="fcos").subjects()
    with pytest.raises(InputError, match="size=100: classify, detect, segment needs a multiple of 32"):
        Plan((it.model,), size=100).subjects()
    (it,) = Plan((it.model,), size=64).subjects()
    step_of("eager", it, 1, None)()
    with pytest.raises(InputError, match="pytorchcv only has classifiers"):
        step_of("pytorchcv", it, 1, None)


@pytest.mark.parametrize("task", task_names())
def test_every_task_is_fed_the_same_image_each_time(task: str) -> None:
    (it,) = Plan(("fishnet_nano",), task=task, size=64, batch=2).subjects()
    assert it.head in ("default", "faster-rcnn", "mask-rcnn", "body")
    images = it.images()
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, it.images())
    assert 0.5 < images.std() < 1.5, "as normalized images are"
    near, far = (np.abs(images[..., :-step] - images[..., step:]).mean() for step in (1, 40))
    assert near < far, "neighbours are more alike than distant px"
    step_of("eager", it, 1, None)()


def test_named_detectors_find_objects() -> None:
    """With random weights too: else a second stage, and masks, would cost nothing."""
    import torch

    (it,) = Plan(("fishnet_nano",), task="instances", size=64).subjects()
    with torch.inference_mode():
        (objects,) = it.build()[1](torch.from_numpy(it.images()))["instances"]
    assert len(objects["masks"]) > 10


@pytest.mark.parametrize("engine", ["eager", "channels_last", "folded", "packed"])
def test_engines_of_torch_compute_the_same(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from fishnet.analysis.benchmark import engines

    seen: list[torch.Tensor] = []
    module = engines._module

    def kept(name: str, it: Subject) -> torch.nn.Module:
        made: torch.nn.Module = module(name, it)
        made.register_forward_hook(lambda _model, _inputs, output: seen.append(output[SUBJECT.task]))
        return made

    monkeypatch.setattr(engines, "_module", kept)
    step_of(engine, SUBJECT, 1, None)()
    wanted = SUBJECT.build()[1](torch.from_numpy(SUBJECT.images()))[SUBJECT.task]
    assert (seen[0] - wanted).abs().max() < 1e-5 * (wanted.max() - wanted.min())


@pytest.mark.parametrize("engine", ["eager", "channels_last", "folded"])
def test_engines_of_torch_in_bf16(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes through the network has 16 bits. torch emulates it where the machine has no bf16."""
    import torch

    from fishnet.analysis.benchmark import engines
    from fishnet.tasks import engine as predicting

    seen: set[torch.dtype] = set()
    module = engines._module

    def watched(name: str, it: Subject) -> torch.nn.Module:
        made: torch.nn.Module = module(name, it)
        for part in made.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.register_forward_hook(lambda _model, _inputs, output: seen.add(output.dtype))
        return made

    monkeypatch.setattr(engines, "_module", watched)
    monkeypatch.setattr(predicting, "_has_bf16", lambda device: True)
    step_of(engine, SUBJECT, 1, None, "bf16")()
    assert seen == {torch.bfloat16}
    seen.clear()
    step_of(engine, SUBJECT, 1, None)()
    assert seen == {torch.float32}


def test_precisions_that_an_engine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from fishnet.tasks import engine as predicting

    with pytest.raises(InputError, match="the packed weights are float32"):
        step_of("packed", SUBJECT, 1, None, "bf16")
    monkeypatch.setattr(predicting, "_has_bf16", lambda device: False)
    with pytest.raises(InputError, match="this machine does not compute in bf16 natively"):
        step_of("eager", SUBJECT, 1, None, "bf16")
    with pytest.raises(InputError, match="precision='bf61': did you mean bf16"):
        Plan(precisions=("bf61",))


def test_a_row_says_its_precision() -> None:
    it = replace(row("onnx", 0.1), precision="bf16")
    assert it.label == "onnx bf16"
    assert it.to_dict()["precision"] == "bf16"
    assert row("onnx", 0.1).label == "onnx"


def test_engines_by_name() -> None:
    assert names_of(["eager, onnx", "onnx,folded"]) == ("eager", "onnx", "folded")
    assert set(Plan.engines) <= set(ENGINES)


def test_turns_are_taken_one_by_one(tmp_path: Path) -> None:
    children = [Child.start(name, None, 1, None, tmp_path / name) for name in PEAKS]
    told: list[tuple[int, int]] = []
    try:
        take_turns(children, 3, 1, lambda *done: told.append(done))
    finally:
        for child in children:
            child.close()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    turns = [
        (start, start + child.seconds[number] * child.passes)
        for number in range(3)
        for child in children
        for start in [child.starts[number]]
    ]
    assert all(end <= start for (_, end), (start, _) in pairwise(turns)), "never two at once"
    assert all(len(child.seconds) == 3 and child.peak and child.peak > 10**7 for child in children)
    assert all(child.process.returncode == 0 for child in children)


def test_a_process_that_ends_is_named(tmp_path: Path) -> None:
    child = Child.start(PEAKS[0], None, 1, None, tmp_path / "log")
    child.process.kill()
    with pytest.raises(WorkError, match=r"sgemm-numpy: its process ended \(code -9"):
        take_turns([child], 1, 0)
    child.close()


def test_an_engine_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown backbone 'nothing'"):
        Child.start("eager", Subject("nothing", "classify", "default", 64, 64, 3, 1), 1, None, tmp_path / "log")
