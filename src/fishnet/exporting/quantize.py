"""Smaller numbers in exported files: weights in 16 bits, or weights and arithmetic in 8.

Weights in 16 bits are half a file, and computed with as before. 8 bits are about a quarter, and on processors that
multiply them (AVX-512 VNNI, AVX-VNNI, ARM's dot products) also quicker; what they cost depends on the model and has to
be measured. Layers that multiply by weights compute with 8 bits, but for the last ones, see
:mod:`fishnet.exporting.layers`; norms, sums, resizing, and all that makes objects of maps stay in float32.

Weights take 7 of the 8 bits. Processors without VNNI add two products of 8 bits in a number of 16, which is full at
32,767: 2 x 255 x 127 is not in it, 2 x 255 x 64 is. The same file so computes the same on every processor, and what was
measured on one holds on the others.

Files are written whole or not at all: what fails half-way leaves nothing behind.
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
"""(n, channels, height, width) each, normalized; sizes may differ."""

_LAYERS = "Conv", "Gemm", "MatMul"  # that onnxruntime has in 8 bits
_OPENVINO_LAYERS = "Convolution", "GroupConvolution", "MatMul"
_BIG = 256  # values of a tensor that is worth an operation of its own
_NORMAL = 2.0**-14, 65504.0  # of float16: the least number with all its bits, and the largest


def quantize_onnx(source: Path, target: Path, batches: Batches) -> None:
    """Writes an ONNX file that computes with 8 bits; metadata as in the source.

    Weights become int8 with a scale for each output channel, activations uint8 between the least and the largest value
    seen (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, static quantisation, QDQ).
    Layers that have seen nothing stay in float32, as a detector's masks where it finds nothing.

    Args:
        source: an ONNX file in float32, its weights inside.
        target: the file to write; an old one is replaced. May be the source.
        batches: what is typical of the images to come; gone through once, one batch in memory at a time. For
            detectors one image each, some with objects.

    Raises:
        InputError: no batch, or one with values that are no numbers; no layer to quantise.
        OSError: the file cannot be written.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with _whole(target) as work, _quiet():
        model = onnx.load(str(source))
        ready = work.with_name("ready.onnx")
        named = _prepare(model, ready)
        layers, last = _onnx_layers(named)
        _check_layers(source, layers, last)
        ranges = _ranges(ready, _Fed(batches, model.graph.input[0].name))
        left = [*last, *_blind(named, layers, ranges)]
        quantizer = QDQQuantizer(
            named, True, True, QuantType.QInt8, QuantType.QUInt8, ranges, list(layers), left, list(_LAYERS), {}
        )  # by channel, in 7 bits
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        small = quantizer.model.model
        _describe(small, model)
        onnx.checker.check_model(small)
        onnx.save(small, str(work))


def _ranges(ready: Path, fed: "_Fed") -> Any:
    """The least and the largest value of what layers take and give, by onnxruntime's calibrator."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    augmented = str(ready.with_name("augmented.onnx"))
    calibrator = create_calibrator(ready, list(_LAYERS), augmented, CalibrationMethod.MinMax)
    calibrator.collect_data(_Reader(fed))
    return calibrator.compute_data()


def _blind(model: Any, layers: frozenset[str], ranges: Any) -> list[str]:
    """Names of the layers that have seen nothing."""
    blind = {name for name in ranges if not np.isfinite(ranges[name].range_value).all()}
    return [node.name for node in model.graph.node if node.name in layers and blind & {node.input[0], *node.output}]


def _prepare(model: Any, ready: Path) -> Any:
    """Folds what is constant and notes the values' types, which the quantiser needs; gives the operations own names."""
    import onnx
    from onnxruntime.quantization import quant_pre_process

    plain = ready.with_name("plain.onnx")
    onnx.save(model, str(plain))
    try:
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    except OSError:
        raise
    except Exception:  # onnxruntime's own kinds have no common base; the quantiser can do without
        onnx.save(model, str(ready))
    named = onnx.load(str(ready))
    for i, node in enumerate(named.graph.node):  # what onnxruntime has rewritten has none
        node.name = f"{i}_{node.name or node.op_type}"
    return named


def _onnx_layers(model: Any) -> tuple[frozenset[str], list[str]]:
    """Names of the layers with constant weights, and of the last ones of them."""
    constant = {it.name for it in model.graph.initializer}
    operations = [Operation(it.op_type, it.name, tuple(it.input), tuple(it.output)) for it in model.graph.node]
    layers = frozenset(it.name for it in operations if it.kind in _LAYERS and it.inputs[1] in constant)
    return layers, last_layers(operations, layers)


def _check_layers(source: Path, layers: frozenset[str], last: list[str]) -> None:
    if len(last) == len(layers):
        raise InputError(f"{source}: no layer to quantise but the last ones, which stay in float32: keep it as it is")


class _Fed:
    """Batches as quantisers take them, by the input's name; each is let go of before the next is asked for."""

    def __init__(self, batches: Batches, name: str) -> None:
        self.batches, self.name, self.count = batches, name, 0

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        self.count = 0
        for batch in self.batches:
            self.count += 1
            if not np.isfinite(batch).all():
                raise InputError(f"calibration batch {self.count} has values that are no numbers (NaN or infinity)")
            given = {self.name: batch}
            del batch
            yield given
            given.clear()  # the quantiser still holds it
        if not self.count:
            raise InputError("no image to fit int8 to: none was given, or none could be read")


class _Reader:
    """Batches as onnxruntime asks for them."""

    def __init__(self, fed: _Fed) -> None:
        self.batches = iter(fed)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch by the input's name; None after the last."""
        return next(self.batches, None)


def _describe(model: Any, source: Any) -> None:
    """Gives a quantised model what its source says of itself, and takes out what the quantiser says of its work."""
    import onnx

    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    used = {node.domain for node in _nodes(model.graph)} | {""}
    kept = [onnx.helper.make_opsetid(it.domain, it.version) for it in model.opset_import if it.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _nodes(graph: Any) -> Iterator[Any]:
    """All of a graph's, also those of its branches."""
    for node in graph.node:
        yield node
        for branch in branches(node):
            yield from _nodes(branch)


def quantize_openvino(source_xml: Path, target_xml: Path, batches: Batches) -> None:
    """Writes an OpenVINO model (.xml and .bin) that computes with 8 bits; runtime info as in the source.

    By NNCF's post-training quantisation, with its correction of biases; the numbers are those of :func:`quantize_onnx`.

    Args:
        source_xml: the .xml of a model in float32, its .bin beside it.
        target_xml: the .xml to write; an old one and its .bin are replaced. May be the source.
        batches: as for :func:`quantize_onnx`, but gone through several times (no generator), two in memory at a
            time.

    Raises:
        InputError: no batch, or one with values that are no numbers; no layer to quantise.
        ValueError: batches that can be gone through only once.
        OSError: the files cannot be written.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    if iter(batches) is batches:
        raise ValueError("batches are gone through several times: give a list, or an object with __iter__")
    with _whole(target_xml) as work, _quiet(), full_instruction_set():
        model = ov.Core().read_model(str(source_xml))
        layers, last = _openvino_layers(model)
        _check_layers(source_xml, layers, last)
        fed = _Fed(batches, model.input(0).get_any_name())
        for _ in fed:
            pass  # looked at and counted
        small = nncf.quantize(
            model,
            nncf.Dataset(fed),
            subset_size=fed.count,
            ignored_scope=nncf.IgnoredScope(names=last),
            preset=nncf.QuantizationPreset.MIXED,  # activations between their own two ends
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,  # 7 bits
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
        ov.save_model(small, str(work), compress_to_fp16=False)
        del model, small  # they map the source's weights


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


def halve_onnx(source: Path, target: Path) -> None:
    """Writes an ONNX file with its weights in 16 bits, rounded; it computes in float32, wherever the source does.

    Each tensor of 256 values or more is stored as float16, and a Cast turns it into float32 as the file is opened. A
    tensor stays in float32 where float16 would lose more than its last bits: where it has a value above 65,504, or
    where all values of a row (of its first axis: an output channel) are below 6.1e-5, unless they are all 0.

    Args:
        source: an ONNX file in float32, its weights inside.
        target: the file to write; an old one is replaced. May be the source.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx

    with _whole(target) as work:
        model = onnx.load(str(source))
        _halve(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(work))


def _halve(graph: Any) -> None:
    """Halves a graph's tensors and those of its branches. A branch sees the Casts of the graph around it."""
    import onnx

    for node in graph.node:
        for branch in branches(node):
            _halve(branch)
    given = {it.name for it in graph.input}
    casts = []
    for tensor in graph.initializer:
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if tensor.data_type == onnx.TensorProto.FLOAT and name not in given and _fits(values):
            half = f"{name}.float16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _fits(values: NDArray[Any]) -> bool:
    """Whether float16 keeps a tensor but for last bits."""
    if values.size < _BIG:
        return False
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    return bool(((largest == 0) | ((largest >= _NORMAL[0]) & (largest <= _NORMAL[1]))).all())


def halve_openvino(source: Path, target: Path) -> None:
    """Writes an OpenVINO model (.xml and .bin) with its weights in 16 bits, rounded; runtime info as in the source.

    Weights beyond float16's range stay in float32: https://docs.openvino.ai, "Compressing a Model to FP16".

    Args:
        source: the .xml of a model in float32, its .bin beside it.
        target: the .xml to write; an old one and its .bin are replaced. May be the source.

    Raises:
        OSError: the files cannot be written.
    """
    import openvino as ov

    with _whole(target) as work:
        model = ov.Core().read_model(str(source))
        ov.save_model(model, str(work), compress_to_fp16=True)
        del model  # it maps the source's weights


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes the target if all goes well; other files beside it vanish."""
    with tempfile.TemporaryDirectory(prefix=".precision-", dir=target.parent) as place:
        work = Path(place) / target.name
        yield work
        suffixes = (".bin", ".xml") if target.suffix == ".xml" else (target.suffix,)  # the .xml last: it names the .bin
        for suffix in suffixes:
            work.with_suffix(suffix).replace(target.with_suffix(suffix))


@contextmanager
def _quiet() -> Iterator[None]:
    """Quantisers talk much, and of their own affairs; an error still comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)
