"""Quantizes exported files: weights in 16 bits, or weights and arithmetic in 8 bits.

Weights in 16 bits halve the file; the arithmetic stays in float32. With 8 bits the file has about a quarter of its
size, and processors with 8-bit instructions (AVX-512 VNNI, AVX-VNNI, ARM dot products) run it faster. The effect on the
metric depends on the model and has to be measured. Layers with weights compute in 8 bits, except for the last ones, see
:mod:`fishnet.exporting.layers`. Norms, sums, resizing and the decoding of boxes stay in float32.

Weights use 7 of the 8 bits. Processors without VNNI add two 8-bit products in 16 bits, which hold at most 32,767:
2 x 255 x 127 overflows, 2 x 255 x 64 does not. So a file gives the same results on every processor, and a metric that
was measured on one holds on others.

Files are written completely or not at all.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError
from fishnet.exporting.layers import Operation, last_layers
from fishnet.exporting.net import branches
from fishnet.runtime.engines import full_instruction_set

Batches = Iterable[NDArray[np.float32]]
"""Normalized arrays of shape (n, channels, height, width); sizes may differ."""

_LAYERS = "Conv", "Gemm", "MatMul"  # those that onnxruntime computes in 8 bits
_OPENVINO_LAYERS = "Convolution", "GroupConvolution", "MatMul"
_MIN_VALUES = 256  # smaller tensors are not worth a Cast
_NORMAL = 2.0**-14, 65504.0  # float16: the smallest number with full precision, and the largest


def quantize_onnx(source: Path, target: Path, batches: Batches) -> None:
    """Writes an ONNX file that computes in 8 bits; its metadata is the source's.

    Weights become int8 with a scale for each output channel, activations uint8 between the smallest and the largest
    value seen (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, static, QDQ). Layers that
    never ran stay in float32, such as a detector's mask head if nothing is detected.

    Args:
        source: an ONNX file in float32, with its weights inside.
        target: the file to write; an old one is replaced. May be the source.
        batches: typical images; iterated once, with one batch in memory at a time. For detectors one image each, some
            of them with objects.

    Raises:
        InputError: there is no batch, a batch has values that are not finite, or there is no layer to quantize.
        OSError: the file cannot be written.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with _atomic_target(target) as work, _quiet():
        model = onnx.load(str(source))
        ready = work.with_name("ready.onnx")
        named = _prepare(model, ready)
        layers, last = _onnx_layers(named)
        _check_layers(source, layers, last)
        ranges = _ranges(ready, _Inputs(batches, model.graph.input[0].name))
        excluded = [*last, *_without_range(named, layers, ranges)]
        quantizer = QDQQuantizer(
            named, True, True, QuantType.QInt8, QuantType.QUInt8, ranges, list(layers), excluded, list(_LAYERS), {}
        )  # the two True: per channel, and in 7 bits
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        quantized = quantizer.model.model
        _copy_metadata(quantized, model)
        onnx.checker.check_model(quantized)
        onnx.save(quantized, str(work))


def _ranges(ready: Path, inputs: "_Inputs") -> Any:
    """Returns the range of the layers' inputs and outputs, from onnxruntime's calibrator."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    augmented = str(ready.with_name("augmented.onnx"))
    calibrator = create_calibrator(ready, list(_LAYERS), augmented, CalibrationMethod.MinMax)
    calibrator.collect_data(_Reader(inputs))
    return calibrator.compute_data()


def _without_range(model: Any, layers: frozenset[str], ranges: Any) -> list[str]:
    """Returns the names of the layers that never ran during calibration."""
    unseen = {name for name in ranges if not np.isfinite(ranges[name].range_value).all()}
    return [node.name for node in model.graph.node if node.name in layers and unseen & {node.input[0], *node.output}]


def _prepare(model: Any, ready: Path) -> Any:
    """Folds constants, infers types for the quantizer, and gives each operation a unique name."""
    import onnx
    from onnxruntime.quantization import quant_pre_process

    plain = ready.with_name("plain.onnx")
    onnx.save(model, str(plain))
    try:
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    except OSError:
        raise
    except Exception:  # onnxruntime's exceptions have no common base; the quantizer also works without
        onnx.save(model, str(ready))
    named = onnx.load(str(ready))
    for i, node in enumerate(named.graph.node):  # nodes that onnxruntime has rewritten have no name
        node.name = f"{i}_{node.name or node.op_type}"
    return named


def _onnx_layers(model: Any) -> tuple[frozenset[str], list[str]]:
    """Returns the names of the layers with constant weights, and of the last ones among them."""
    constant = {tensor.name for tensor in model.graph.initializer}
    operations = [
        Operation(node.op_type, node.name, tuple(node.input), tuple(node.output)) for node in model.graph.node
    ]
    layers = frozenset(item.name for item in operations if item.kind in _LAYERS and item.inputs[1] in constant)
    return layers, last_layers(operations, layers)


def _check_layers(source: Path, layers: frozenset[str], last: list[str]) -> None:
    if len(last) == len(layers):
        raise InputError(f"{source}: no layer to quantize: only last layers, which stay in float32, have weights")


class _Inputs:
    """Batches by the input's name, as quantizers take them. Each is released before the next one is read."""

    def __init__(self, batches: Batches, name: str) -> None:
        self.batches, self.name, self.count = batches, name, 0

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        self.count = 0
        for batch in self.batches:
            self.count += 1
            if not np.isfinite(batch).all():
                raise InputError(f"calibration batch {self.count} has values that are not finite")
            inputs = {self.name: batch}
            del batch
            yield inputs
            inputs.clear()  # the quantizer still holds the dict
        if not self.count:
            raise InputError("no image to calibrate int8 on: none was given, or none could be read")


class _Reader:
    """Batches with the interface of onnxruntime's data readers."""

    def __init__(self, inputs: _Inputs) -> None:
        self.batches = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Returns the next batch by the input's name; None after the last."""
        return next(self.batches, None)


def _copy_metadata(model: Any, source: Any) -> None:
    """Replaces the quantizer's metadata with the source's, and removes unused opsets."""
    import onnx

    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    used = {node.domain for node in _nodes(model.graph)} | {""}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    kept = [onnx.helper.make_opsetid(opset.domain, opset.version) for opset in opsets]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yields all nodes of a graph and its branches."""
    for node in graph.node:
        yield node
        for branch in branches(node):
            yield from _nodes(branch)


def quantize_openvino(source_xml: Path, target_xml: Path, batches: Batches) -> None:
    """Writes an OpenVINO model (.xml and .bin) that computes in 8 bits; its runtime info is the source's.

    Uses NNCF's post-training quantization with bias correction, and the same number formats as :func:`quantize_onnx`.

    Args:
        source_xml: the .xml of a model in float32, its .bin beside it.
        target_xml: the .xml to write; an old one and its .bin are replaced. May be the source.
        batches: as for :func:`quantize_onnx`, but iterated several times (not a generator), with two in memory at a
            time.

    Raises:
        InputError: there is no batch, a batch has values that are not finite, or there is no layer to quantize.
        ValueError: the batches can be iterated only once.
        OSError: the files cannot be written.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    if iter(batches) is batches:
        raise ValueError("batches are iterated several times: give a list, or an object with __iter__")
    with _atomic_target(target_xml) as work, _quiet(), full_instruction_set():
        model = ov.Core().read_model(str(source_xml))
        layers, last = _openvino_layers(model)
        _check_layers(source_xml, layers, last)
        inputs = _Inputs(batches, model.input(0).get_any_name())
        for _ in inputs:
            pass  # checked and counted
        quantized = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            subset_size=inputs.count,
            ignored_scope=nncf.IgnoredScope(names=last),
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,  # 7 bits
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
        ov.save_model(quantized, str(work), compress_to_fp16=False)
        del model, quantized  # they map the source's weights


def _openvino_layers(model: Any) -> tuple[frozenset[str], list[str]]:
    operations = []
    layers = []
    for node in model.get_ops():
        inputs = tuple(_value(node.input_value(i)) for i in range(node.get_input_size()))
        outputs = tuple(_value(node.output(i)) for i in range(node.get_output_size()))
        operations.append(Operation(node.get_type_name(), node.get_friendly_name(), inputs, outputs))
        if node.get_type_name() in _OPENVINO_LAYERS:
            layers.append(node.get_friendly_name())
    return frozenset(layers), last_layers(operations, frozenset(layers))


def _value(output: Any) -> str:
    return f"{output.get_node().get_friendly_name()}:{output.get_index()}"


def store_fp16_onnx(source: Path, target: Path) -> None:
    """Writes an ONNX file with its weights rounded to 16 bits. It computes in float32 wherever the source does.

    Each tensor of 256 values or more is stored as float16, and a Cast turns it into float32 when the file is opened. A
    tensor stays in float32 if float16 would lose more than its last bits: if it has a value above 65,504, or if all
    values of a row (of its first axis: an output channel) are below 6.1e-5, unless they are all 0.

    Args:
        source: an ONNX file in float32, with its weights inside.
        target: the file to write; an old one is replaced. May be the source.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx

    with _atomic_target(target) as work:
        model = onnx.load(str(source))
        _halve(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(work))


def _halve(graph: Any) -> None:
    """Halves the tensors of a graph and its branches. Branches can use the Casts of the graph around them."""
    import onnx

    for node in graph.node:
        for branch in branches(node):
            _halve(branch)
    inputs = {value.name for value in graph.input}
    casts = []
    for tensor in graph.initializer:
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if tensor.data_type == onnx.TensorProto.FLOAT and name not in inputs and _fits_float16(values):
            half = f"{name}.float16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _fits_float16(values: NDArray[Any]) -> bool:
    """Whether a tensor is worth storing as float16 and loses no more than its last bits."""
    if values.size < _MIN_VALUES:
        return False
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    return bool(((largest == 0) | ((largest >= _NORMAL[0]) & (largest <= _NORMAL[1]))).all())


def store_fp16_openvino(source: Path, target: Path) -> None:
    """Writes an OpenVINO model (.xml and .bin) with its weights rounded to 16 bits; its runtime info is the source's.

    Weights beyond float16's range stay in float32: https://docs.openvino.ai, "Compressing a Model to FP16".

    Args:
        source: the .xml of a model in float32, its .bin beside it.
        target: the .xml to write; an old one and its .bin are replaced. May be the source.

    Raises:
        OSError: the files cannot be written.
    """
    import openvino as ov

    with _atomic_target(target) as work:
        model = ov.Core().read_model(str(source))
        ov.save_model(model, str(work), compress_to_fp16=True)
        del model  # it maps the source's weights


@contextmanager
def _atomic_target(target: Path) -> Iterator[Path]:
    """Yields a path to write to, which replaces the target if there is no error; other files beside it are removed."""
    with tempfile.TemporaryDirectory(prefix=".precision-", dir=target.parent) as folder:
        work = Path(folder) / target.name
        yield work
        suffixes = (
            (".bin", ".xml") if target.suffix == ".xml" else (target.suffix,)
        )  # the .xml last, as it needs the .bin
        for suffix in suffixes:
            work.with_suffix(suffix).replace(target.with_suffix(suffix))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences quantizers, which log a lot. Errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)
