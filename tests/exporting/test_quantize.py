"""Files with smaller numbers: what is stored, what is computed, what stays as it was, and what a failure leaves."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from fishnet.errors import InputError
from fishnet.exporting.graphs import write_onnx, write_openvino
from fishnet.exporting.layers import Operation, last_layers
from fishnet.exporting.quantize import quantize_onnx, quantize_openvino, store_fp16_onnx, store_fp16_openvino
from fishnet.tasks import get_task
from tests.exporting.models import made

SIZES = (64, 96), (96, 64), (70, 66)


class Small(nn.Module):
    """Convolutions, a norm between them that nothing folds, one map of another resolution, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.norm, self.third = nn.BatchNorm2d(32), nn.Conv2d(32, 32, 1)
        self.last = nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.second(self.first(image).relu())
        maps = maps + self.third(self.norm(maps).relu())
        result: Tensor = self.last(maps.mean((2, 3)))
        return result


@dataclass(frozen=True)
class Files:
    """A model's: in the folder, .onnx and .xml."""

    onnx: Path
    xml: Path


def images(count: int = 4, seed: int = 0) -> list[NDArray[np.float32]]:
    """Batches of one, of several sizes."""
    random = np.random.default_rng(seed)
    return [random.normal(size=(1, 3, *SIZES[i % len(SIZES)])).astype(np.float32) for i in range(count)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A small net that takes any size, with metadata."""
    import openvino as ov

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    axes = {"image": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch"}}
    torch.onnx.export(
        Small().eval(), (torch.zeros(2, 3, 64, 96),), str(path), input_names=["image"], output_names=["logits"],
        dynamo=False, opset_version=17, dynamic_axes=axes,
    )  # fmt: skip
    model = onnx.load(str(path))
    helper.set_model_props(model, {"fishnet": '{"classes": ["ä", "b"]}', "other": "kept too"})
    onnx.save(model, str(path))
    graph = ov.convert_model(str(path))
    graph.set_rt_info('{"classes": ["ä", "b"]}', ["fishnet"])
    ov.save_model(graph, str(path.with_suffix(".xml")), compress_to_fp16=False)
    return Files(path, path.with_suffix(".xml"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A two-stage detector: all that detectors do after their layers, and between them."""
    bundle, model = made("detect", "faster-rcnn", width=64, box_width=128)
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    it = write_onnx(model, bundle, path)
    write_openvino(path, path.with_suffix(".xml"), it)
    return Files(path, path.with_suffix(".xml"))


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A classifier as export writes it."""
    bundle, model = made("classify", get_task("classify").heads[0])
    path = tmp_path_factory.mktemp("nano") / "nano.onnx"
    write_onnx(model, bundle, path)
    return Files(path, path.with_suffix(".xml"))


def run(path: Path, batch: NDArray[np.float32]) -> list[Any]:
    """An ONNX or OpenVINO file's outputs."""
    if path.suffix == ".xml":
        import openvino as ov

        compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [np.array(value) for value in compiled(batch).values()]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def eight_bits(path: Path, kinds: tuple[str, ...] = ("Conv", "Gemm", "MatMul")) -> tuple[list[str], list[str]]:
    """Names of the layers that take numbers of 8 bits, and of those that do not."""
    graph = onnx.load(str(path)).graph
    makers = {name: node for node in graph.node for name in node.output}
    sides: tuple[list[str], list[str]] = [], []
    for node in graph.node:
        if node.op_type in kinds:
            fed = [makers[name].op_type if name in makers else "" for name in node.input[:2]]
            sides[fed != ["DequantizeLinear"] * 2].append(node.name)
    return sides


def close(path: Path, reference: Path, batch: NDArray[np.float32], share: float) -> None:
    """Whether the outputs' root mean square difference is a share of their spread at the most, and not nothing."""
    found, wanted = run(path, batch)[0], run(reference, batch)[0]
    error = float(np.sqrt(((found - wanted) ** 2).mean()))
    assert 0 < error <= share * float(np.ptp(wanted))


# 7 bits of weights and 8 of activations: a rounding is up to 1/128 and 1/510 of the range, and some layers' add up.
INT8 = 0.03


def test_layers_compute_with_eight_bits_but_for_the_last(small: Files, tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    quantize_onnx(small.onnx, target, images())
    inner, last = eight_bits(target)
    assert len(inner) == 3
    assert len(last) == 1
    assert "last" in last[0]
    model = onnx.load(str(target))
    onnx.checker.check_model(model, full_check=True)
    weights = {it.name: it for it in model.graph.initializer}
    scales = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]
    channels = [weights[n.input[1]].dims[0] for n in scales if weights[n.input[0]].data_type == TensorProto.INT8]
    assert sorted(channels) == [16, 32, 32]  # a scale for each output channel
    for tensor in weights.values():
        if tensor.data_type == TensorProto.INT8 and tensor.dims and np.prod(tensor.dims) > 64:
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() == 64  # 7 bits: no processor overflows


@pytest.mark.parametrize("size", SIZES)
def test_eight_bits_say_nearly_the_same(size: tuple[int, int], small: Files, tmp_path: Path) -> None:
    quantize_onnx(small.onnx, tmp_path / "small.onnx", images())
    batch = np.random.default_rng(9).normal(size=(2, 3, *size)).astype(np.float32)
    close(tmp_path / "small.onnx", small.onnx, batch, INT8)


def test_openvino_says_nearly_the_same(small: Files, tmp_path: Path) -> None:
    import openvino as ov

    target = tmp_path / "small.xml"
    quantize_openvino(small.xml, target, images())
    for size in SIZES:
        close(target, small.xml, np.random.default_rng(9).normal(size=(2, 3, *size)).astype(np.float32), INT8)
    model = ov.Core().read_model(str(target))
    assert model.get_rt_info(["fishnet"]).astype(str) == '{"classes": ["ä", "b"]}'
    stored = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert sum(node.get_element_type() == ov.Type.i8 for node in stored) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.bin", "small.xml"]


@pytest.mark.parametrize("write", [lambda a, b: quantize_onnx(a, b, images()), store_fp16_onnx])
def test_metadata_stays(write: Any, small: Files, tmp_path: Path) -> None:
    write(small.onnx, tmp_path / "small.onnx")
    before, after = (onnx.load(str(file)) for file in (small.onnx, tmp_path / "small.onnx"))
    props = [{prop.key: prop.value for prop in model.metadata_props} for model in (before, after)]
    assert props[0] == props[1]
    assert {it.domain for it in after.opset_import} == {""}
    assert [it.name for it in after.graph.input] == ["image"]
    assert [it.name for it in after.graph.output] == ["logits"]
    assert not any(it.data_location for it in after.graph.initializer)  # the weights are inside
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]


@pytest.mark.slow
def test_a_backbone_shrinks_and_agrees(nano: Files, tmp_path: Path) -> None:
    quantize_onnx(nano.onnx, tmp_path / "int8.onnx", images(6))
    store_fp16_onnx(nano.onnx, tmp_path / "half.onnx")
    inner, last = eight_bits(tmp_path / "int8.onnx")
    assert len(last) == 1
    assert len(inner) > 50
    full = nano.onnx.stat().st_size
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * full  # a quarter, and the graph's own text
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * full
    batch = np.random.default_rng(9).normal(size=(2, 3, 96, 128)).astype(np.float32)
    close(tmp_path / "int8.onnx", nano.onnx, batch, 0.15)  # 60 layers deep, weights not trained
    close(tmp_path / "half.onnx", nano.onnx, batch, 1e-2)


@pytest.mark.slow
def test_what_makes_objects_of_maps_stays_as_it_was(detector: Files, tmp_path: Path) -> None:
    """All operations but Q, DQ and the layers they serve are those of the source; last layers are in float32."""
    target = tmp_path / "int8.onnx"
    quantize_onnx(detector.onnx, target, images_for_objects())
    inner, last = eight_bits(target)
    assert {name.partition("_")[2].rpartition("/")[0].rpartition("/")[2].rstrip("_1234") for name in last} == {
        "cls_logits", "bbox_pred", "cls_score",
    }  # fmt: skip
    assert sum("backbone" in name or "trunk" in name for name in [*inner, *last]) == sum(
        "backbone" in name or "trunk" in name for name in inner
    )
    graph = onnx.load(str(target)).graph
    takers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, set()).add(node.op_type)
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert takers[node.output[0]] == {"DequantizeLinear"}
    boxes, scores, *_ = run(target, images_for_objects()[0])
    assert boxes.dtype == scores.dtype == np.float32
    assert len(np.unique(scores)) > 0.9 * len(scores)  # not steps of 1/256


def images_for_objects() -> list[NDArray[np.float32]]:
    """One image each, of sides that detectors take."""
    random = np.random.default_rng(0)
    return [random.normal(size=(1, 3, *size)).astype(np.float32) for size in ((96, 160), (128, 96))]


@pytest.mark.slow
def test_a_detector_of_openvino(detector: Files, tmp_path: Path) -> None:
    import openvino as ov

    quantize_openvino(detector.xml, tmp_path / "int8.xml", images_for_objects())
    small, full = (ov.Core().read_model(str(path)) for path in (tmp_path / "int8.xml", detector.xml))
    text = full.get_rt_info(["fishnet"]).astype(str)
    assert small.get_rt_info(["fishnet"]).astype(str) == text
    before, after = (
        [node.get_friendly_name() for node in model.get_ops() if node.get_type_name() in ("TopK", "ROIAlign", "Exp")]
        for model in (full, small)
    )
    assert sorted(before) == sorted(after)
    assert (tmp_path / "int8.bin").stat().st_size < 0.4 * detector.xml.with_suffix(".bin").stat().st_size
    assert len(run(tmp_path / "int8.xml", images_for_objects()[0])[1])


def test_the_same_images_give_the_same_file(small: Files, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantize_onnx(small.onnx, tmp_path / name, images())
    quantize_onnx(small.onnx, tmp_path / "c.onnx", [3 * batch for batch in images()])
    texts = [(tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx", "c.onnx")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_one_batch_is_in_memory_at_a_time(form: str, small: Files, tmp_path: Path) -> None:
    alive: list[int] = []
    made: list[weakref.ref[Any]] = []

    class Stream:
        def __iter__(self) -> Iterator[NDArray[np.float32]]:
            for i in range(6):
                alive.append(sum(it() is not None for it in made))
                batch = np.random.default_rng(i).normal(size=(1, 3, *SIZES[i % 3])).astype(np.float32)
                made.append(weakref.ref(batch))
                yield batch
                del batch

    if form == "onnx":
        quantize_onnx(small.onnx, tmp_path / "small.onnx", Stream())
    else:
        quantize_openvino(small.xml, tmp_path / "small.xml", Stream())
    assert len(alive) >= 6
    assert max(alive) <= (form == "openvino")  # OpenVINO keeps its last input until the next


def test_a_generator_is_enough_for_onnx_and_refused_for_openvino(small: Files, tmp_path: Path) -> None:
    quantize_onnx(small.onnx, tmp_path / "a.onnx", iter(images()))
    quantize_onnx(small.onnx, tmp_path / "b.onnx", images())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(ValueError, match="several times"):
        quantize_openvino(small.xml, tmp_path / "a.xml", iter(images()))


def bad(kind: str) -> list[NDArray[np.float32]]:
    """No batches, or one that has what is no number in its second image."""
    if kind == "nothing":
        return []
    batches = images(3)
    batches[1][0, 1, 5, 5] = {"nan": np.nan, "infinity": np.inf}[kind]
    return batches


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("kind", "said"), [("nothing", "no image"), ("nan", "batch 2 has"), ("infinity", "batch 2 has")]
)
def test_bad_images_are_refused_and_leave_nothing(
    form: str, kind: str, said: str, small: Files, tmp_path: Path
) -> None:
    target = tmp_path / ("old.onnx" if form == "onnx" else "old.xml")
    target.write_text("old")
    write, source = (quantize_onnx, small.onnx) if form == "onnx" else (quantize_openvino, small.xml)
    with pytest.raises(InputError, match=said) as caught:
        write(source, target, bad(kind))
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_model_of_last_layers_is_refused(tmp_path: Path) -> None:
    torch.onnx.export(
        nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 64, 64),), str(tmp_path / "one.onnx"), dynamo=False, opset_version=17
    )
    with pytest.raises(InputError, match="no layer to quantize"):
        quantize_onnx(tmp_path / "one.onnx", tmp_path / "small.onnx", images())
    assert [file.name for file in tmp_path.iterdir()] == ["one.onnx"]


def test_a_part_that_has_seen_nothing_stays_in_float32(tmp_path: Path) -> None:
    """As a detector's masks where nothing is found: their convolutions then run on no images."""
    weights = [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), name) for name in "abcd"]
    none = numpy_helper.from_array(np.zeros(1, np.float32), "none")
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["first"]),
        helper.make_node("Conv", ["first", "b"], ["maps"]),
        helper.make_node("ReduceMax", ["maps"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["most", "none"], ["found"]),
        helper.make_node("Compress", ["maps", "found"], ["chosen"], axis=0),
        helper.make_node("Conv", ["chosen", "c"], ["inner"]),
        helper.make_node("Conv", ["inner", "d"], ["masks"]),
    ]
    shape = [1, 4, "h", "w"]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["n", *shape[1:]])], [*weights, none],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    empty, full = -np.ones((1, 4, 8, 8), np.float32), np.ones((1, 4, 8, 8), np.float32)
    for name, batches, count in (("blind", [empty], 2), ("seen", [empty, full], 3)):
        quantize_onnx(tmp_path / "m.onnx", tmp_path / f"{name}.onnx", batches)
        assert len(eight_bits(tmp_path / f"{name}.onnx")[0]) == count
    assert run(tmp_path / "seen.onnx", full)[0] == pytest.approx(256, rel=INT8)


def test_operations_without_names_are_told_apart(tmp_path: Path) -> None:
    """onnxruntime rewrites some activations, and the new operations have no names."""
    acts = [nn.Hardswish() for _ in range(3)]
    convs = [nn.Conv2d(3 if i == 0 else 8, 8, 3) for i in range(4)]
    net = nn.Sequential(convs[0], acts[0], convs[1], acts[1], convs[2], acts[2], convs[3])
    path = tmp_path / "m.onnx"
    torch.onnx.export(net.eval(), (torch.zeros(1, 3, 64, 96),), str(path), dynamo=False, opset_version=17)
    quantize_onnx(path, tmp_path / "int8.onnx", images(1))
    assert [len(names) for names in eight_bits(tmp_path / "int8.onnx")] == [3, 1]


WRITERS = {
    "quantize_onnx": lambda it, folder: quantize_onnx(it.onnx, folder / "m.onnx", images()),
    "quantize_openvino": lambda it, folder: quantize_openvino(it.xml, folder / "m.xml", images()),
    "store_fp16_onnx": lambda it, folder: store_fp16_onnx(it.onnx, folder / "m.onnx"),
    "store_fp16_openvino": lambda it, folder: store_fp16_openvino(it.xml, folder / "m.xml"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing(name: str, small: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino as ov

    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    monkeypatch.setattr(ov, "save_model", full)
    with pytest.raises(OSError, match="No space"):
        WRITERS[name](small, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there(name: str, small: Files, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WRITERS[name](small, tmp_path / "none")


def test_a_file_can_take_its_source_s_place(small: Files, tmp_path: Path) -> None:
    for suffix in (".onnx", ".xml", ".bin"):
        (tmp_path / f"m{suffix}").write_bytes(small.onnx.with_suffix(suffix).read_bytes())
    store_fp16_onnx(tmp_path / "m.onnx", tmp_path / "m.onnx")
    store_fp16_openvino(tmp_path / "m.xml", tmp_path / "m.xml")
    batch = images()[0]
    for path, full in ((tmp_path / "m.onnx", small.onnx), (tmp_path / "m.xml", small.xml)):
        close(path, full, batch, 1e-3)


def rounded(model: Any) -> Any:
    """A model with its larger tensors' values rounded to float16's, stored as float32."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= 256:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
    return model


def test_halved_weights_are_rounded_weights_exactly(small: Files, tmp_path: Path) -> None:
    store_fp16_onnx(small.onnx, tmp_path / "half.onnx")
    onnx.save(rounded(onnx.load(str(small.onnx))), str(tmp_path / "rounded.onnx"))
    batch = images()[0]
    np.testing.assert_array_equal(run(tmp_path / "half.onnx", batch)[0], run(tmp_path / "rounded.onnx", batch)[0])
    halves = [it for it in onnx.load(str(tmp_path / "half.onnx")).graph.initializer if it.data_type == 10]
    assert sorted(int(np.prod(it.dims)) for it in halves) == [432, 1024, 4608]  # not biases, norms, the small layer
    close(tmp_path / "half.onnx", small.onnx, batch, 1e-3)  # float16 rounds by 1/2048 at the most


def test_halved_openvino_is_half_and_keeps_what_it_says(small: Files, tmp_path: Path) -> None:
    import openvino as ov

    store_fp16_openvino(small.xml, tmp_path / "half.xml")
    model = ov.Core().read_model(str(tmp_path / "half.xml"))
    assert model.get_rt_info(["fishnet"]).astype(str) == '{"classes": ["ä", "b"]}'
    assert (tmp_path / "half.bin").stat().st_size < 0.6 * small.xml.with_suffix(".bin").stat().st_size
    close(tmp_path / "half.xml", small.xml, images()[0], 1e-3)


def test_what_float16_cannot_hold_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    plain = random.normal(size=(16, 16)).astype(np.float32)
    cases = {
        "plain": plain,
        "large": np.where(np.eye(16, dtype=bool), np.float32(7e4), plain),
        "tiny_row": np.where(np.arange(16)[:, None] == 3, np.float32(1e-6), plain),
        "empty_row": np.where(np.arange(16)[:, None] == 3, np.float32(0), plain),
        "tiny_value": np.where(np.eye(16, dtype=bool), np.float32(1e-9), plain),
        "nan": np.where(np.eye(16, dtype=bool), np.float32(np.nan), plain),
        "short": plain[:2],
    }
    nodes = [helper.make_node("Add", ["image", name], [f"{name}_sum"]) for name in cases]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info(f"{it}_sum", TensorProto.FLOAT, list(cases[it].shape)) for it in cases],
            [numpy_helper.from_array(values, name) for name, values in cases.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    onnx.save(model, str(tmp_path / "m.onnx"))
    store_fp16_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx")
    kept = {it.name for it in onnx.load(str(tmp_path / "half.onnx")).graph.initializer if it.data_type == 1}
    assert kept == {"large", "tiny_row", "nan", "short"}
    zero = np.zeros(1, np.float32)
    for found, values in zip(run(tmp_path / "half.onnx", zero), cases.values(), strict=True):
        np.testing.assert_allclose(found, values, rtol=2**-11, atol=2**-25)  # half a step of float16


def test_branches_see_the_halved_weights(tmp_path: Path) -> None:
    """An If whose branch uses a tensor of the graph around it, and has one of its own."""
    outer, inner = (np.random.default_rng(i).normal(size=(16, 16)).astype(np.float32) for i in (0, 1))
    result = helper.make_tensor_value_info("r", TensorProto.FLOAT, [16, 16])
    one = helper.make_graph(
        [helper.make_node("Add", ["outer", "inner"], ["r"])], "one", [], [result],
        [numpy_helper.from_array(inner, "inner")],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Identity", ["outer"], ["r"])], "other", [], [result])
    graph = helper.make_graph(
        [helper.make_node("If", ["image"], ["y"], then_branch=one, else_branch=other)], "g",
        [helper.make_tensor_value_info("image", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 16])], [numpy_helper.from_array(outer, "outer")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    store_fp16_onnx(tmp_path / "m.onnx", tmp_path / "half.onnx")
    half = [values.astype(np.float16).astype(np.float32) for values in (outer, inner)]
    for answer, wanted in ((True, half[0] + half[1]), (False, half[0])):
        np.testing.assert_array_equal(run(tmp_path / "half.onnx", np.array(answer))[0], wanted)


def test_last_layers_are_those_whose_values_reach_no_other() -> None:
    """The first stage's scores choose where the second cuts, and are no part of what it cuts."""
    operations = [
        Operation("Conv", "trunk", ("image", "w"), ("maps",)),
        Operation("Relu", "relu", ("maps",), ("active",)),
        Operation("Conv", "scores", ("active", "w"), ("objectness",)),
        Operation("TopK", "best", ("objectness", "k"), ("values", "places")),
        Operation("Gather", "choose", ("boxes", "places"), ("rois",)),
        Operation("RoiAlign", "cut", ("active", "rois", "batch"), ("parts",)),
        Operation("Reshape", "flat", ("parts", "shape"), ("rows",)),
        Operation("Gemm", "hidden", ("rows", "w", "b"), ("known",)),
        Operation("Gemm", "classes", ("known", "w", "b"), ("logits",)),
        Operation("Conv", "offsets", ("active", "w"), ("boxes",)),
    ]
    layers = frozenset({"trunk", "scores", "hidden", "classes", "offsets"})
    assert sorted(last_layers(operations, layers)) == ["classes", "offsets", "scores"]


def test_a_circle_ends() -> None:
    operations = [
        Operation("Conv", "only", ("x", "w"), ("y",)),
        Operation("Add", "a", ("y", "u"), ("v",)),
        Operation("Add", "b", ("v", "v"), ("u",)),
    ]
    assert last_layers(operations, frozenset({"only"})) == ["only"]


def test_logging_and_output_are_as_before(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    before = logging.root.manager.disable
    quantize_onnx(small.onnx, tmp_path / "m.onnx", images())
    with pytest.raises(InputError):
        quantize_onnx(small.onnx, tmp_path / "n.onnx", [])
    assert logging.root.manager.disable == before
    assert capsys.readouterr() == ("", "")
