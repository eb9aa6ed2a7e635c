"""Engines for exported files without torch: onnxruntime for ONNX, OpenVINO for its IR.

Both take the input of a :class:`~fishnet.prediction.predictor.Predictor`'s engine and return what the torch engine
returns.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError, NotFiniteError, WorkError, first_line, nearest
from fishnet.files.reading import GIB, open_regular, read_bytes
from fishnet.images.preprocess import DIVISOR
from fishnet.runtime.contract import check_input, check_outputs
from fishnet.runtime.exported import KEY, Exported, format_of, label
from fishnet.runtime.objects import objects_of
from fishnet.runtime.precision import check_fixed_precision, openvino_precision
from fishnet.runtime.reducing import reduced

_MAX_ONNX = 2 * GIB  # the largest file that the format allows
_NOWHERE = "/nowhere"
_MAX_PREPARED = 4  # subsets of heads that an engine keeps ready, besides the full set
_ENVIRONMENT = RLock()  # held while environment variables are changed

Run = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]
"""From (batch, channels, height, width) to the values of some outputs of the graph, in their order."""

Prepare = Callable[[tuple[str, ...]], Run]
"""From names of outputs to the function that computes them."""


class RuntimeEngine:
    """Runs an exported file: normalized float32 in, raw outputs as numpy out.

    Args:
        exported: the file's description.
        prepare: makes a function that computes some of the graph's outputs and, where the library can, no others.
        name: the file's name, for messages.
        thread_safe: whether several threads may call the engine at once.
        precision: of the computation, fp32 or bf16, whatever that of the file's weights is.

    Attributes:
        exported, name, thread_safe, precision: as given.
        bundle: the config of the exported bundle.
    """

    def __init__(
        self,
        exported: Exported,
        prepare: Prepare,
        name: str = "this file",
        *,
        thread_safe: bool = False,
        precision: str = "fp32",
    ) -> None:
        self.exported, self.bundle, self.name, self.thread_safe = exported, exported.bundle, name, thread_safe
        self.precision = precision
        self._prepare, self._lock = prepare, Lock()
        self._runs: dict[tuple[str, ...], Run] = {tuple(exported.heads): prepare(self._names(exported.heads))}

    def __call__(self, batch: NDArray[np.float32], only: Sequence[str] | None = None) -> Any:
        """(batch, channels, height, width), normalized -> the task's raw outputs, one item per image.

        Classifiers return (batch, classes) and segmenters (batch, classes, height, width) float32 logits; detectors
        return a list of dicts, see :meth:`fishnet.prediction.results.Detections.from_raw`. A model with several heads
        returns a dict with the outputs of each by the head's name. A file that takes one image runs once per image.

        Args:
            batch: the images.
            only: the names of the heads to compute, for a model with several; None for all. The first call for a set of
                heads takes longer, as the library prepares the part of the graph that they need.

        Raises:
            InputError: a size that the file does not take, a head that it does not have, or outputs that do not agree
                with the description.
            NotFiniteError: a detector's raw outputs are not finite.
        """
        check_size(self.exported, batch.shape)
        heads = self._chosen(only)
        batches = [batch] if self.exported.dynamic_batch else [batch[i : i + 1] for i in range(len(batch))]
        parts = [self._run_heads(images, heads) for images in batches]
        outputs = {head: _joined([part[head] for part in parts]) for head in heads}
        return outputs if len(self.bundle.heads) > 1 else outputs[heads[0]]

    def _chosen(self, only: Sequence[str] | None) -> tuple[str, ...]:
        """The names of the heads to compute, in the file's order."""
        for head in only or ():
            if head not in self.bundle.heads:
                raise InputError(f"{self.name}: has no head {head!r}: {nearest(head, self.bundle.heads)}")
        return tuple(head for head in self.exported.heads if only is None or head in only)

    def _names(self, heads: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for head in heads for name in self.exported.graph_names(head))

    def _run_heads(self, batch: NDArray[np.float32], heads: tuple[str, ...]) -> dict[str, Any]:
        """The raw outputs of some heads by name. Their shapes are checked."""
        with self._lock:
            if heads not in self._runs:
                if len(self._runs) > _MAX_PREPARED:
                    del self._runs[next(key for key in self._runs if key != tuple(self.exported.heads))]
                self._runs[heads] = self._prepare(self._names(heads))
            run = self._runs[heads]
        values, names = run(batch), self._names(heads)
        if len(values) != len(names):
            raise InputError(f"{self.name}: returns {len(values)} outputs, not {', '.join(names)}")
        outputs = dict(zip(names, map(_to_float32, values), strict=True))
        check_outputs(self.name, self.exported, {name: value.shape for name, value in outputs.items()}, heads)
        by_head = {
            head: {
                name: outputs[output]
                for output, name in zip(self.exported.graph_names(head), self.exported.heads[head], strict=True)
            }
            for head in heads
        }
        return {
            head: self._logits(head, named["logits"], batch) if "logits" in named else self._objects(head, named, batch)
            for head, named in by_head.items()
        }

    def _logits(self, head: str, logits: NDArray[Any], batch: NDArray[np.float32]) -> NDArray[Any]:
        if len(logits) != len(batch) or logits.shape[2:] not in ((), batch.shape[2:]):
            raise InputError(
                f"{self.name}: {label(self.bundle, head)}returns logits of {logits.shape} for an input of {batch.shape}"
            )
        return logits

    def _objects(self, head: str, outputs: dict[str, NDArray[Any]], batch: NDArray[np.float32]) -> list[Any]:
        images = len(batch) if self.exported.dynamic_batch else None
        where, size = f"{self.name}: {label(self.bundle, head)}", (batch.shape[2], batch.shape[3])
        try:
            return objects_of(outputs, self.bundle.heads[head], size, images, where)
        except NotFiniteError:
            raise NotFiniteError(*([head] if len(self.bundle.heads) > 1 else [])) from None


def _joined(parts: Sequence[Any]) -> Any:
    """The outputs of several batches as those of one."""
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _to_float32(values: NDArray[Any]) -> NDArray[Any]:
    """Converts values to float32, unless they are integers."""
    return values if values.dtype.kind in "iu" else values.astype(np.float32, copy=False)


def check_size(exported: Exported, shape: tuple[int, ...]) -> None:
    """Raises InputError for a shape (batch, channels, height, width) that a file does not take."""
    channels, size = exported.bundle.preprocess.channels, (shape[2], shape[3])
    given = f"an input of {size[0]} x {size[1]} px"
    if shape[1] != channels:
        raise InputError(f"an input of {shape[1]} channels: this file takes {channels}")
    if exported.size is not None:
        if size != exported.size:
            raise InputError(f"{given}: this file only takes {exported.size[0]} x {exported.size[1]} px")
        return
    if min(size) < exported.min_side:
        raise InputError(f"{given}: this file takes sides of at least {exported.min_side} px")
    if exported.any_size and (size[0] % DIVISOR or size[1] % DIVISOR):
        raise InputError(f"{given}: this file takes sides that are multiples of {DIVISOR} px")


def open_engine(
    path: str | Path, *, threads: int | None = None, device: str = "auto", precision: str = "auto"
) -> RuntimeEngine:
    """The engine for an exported file.

    Args:
        path: an .onnx file, or an .xml of OpenVINO with its .bin beside it.
        threads: per operation; by default OMP_NUM_THREADS, or, if that is not set, the library's choice.
        device: ``auto`` or ``cpu``; for an .onnx file also ``cuda``, if onnxruntime supports it.
        precision: ``auto`` or ``fp32``; for an OpenVINO file also ``bf16``, which is fp32 on a CPU without bf16.
            ``auto`` is bf16 for a file that was exported with it.

    Raises:
        InputError: no such file, a damaged file, a file that fishnet did not export, a library that is not installed,
            or a device or precision that the library does not have.
    """
    path = Path(path)
    file_format = format_of(path)
    if file_format == "pt2":
        raise InputError(f"{path}: is a program of torch.export: fishnet.load opens it")
    check_file(path)
    if file_format == "onnx":
        check_fixed_precision(precision, "onnxruntime")
        return _open_onnx(path, threads, device)
    return _open_openvino(path, threads, device, precision)


def check_file(path: Path) -> None:
    """Raises InputError if there is no regular file at the path."""
    open_regular(path, "exported file").close()


def read_exported(path: str | Path) -> Exported:
    """The description of an .onnx or .xml file. Raises the errors of :func:`open_engine`."""
    return open_engine(path, device="cpu").exported


def parse_description(path: Path, text: str | None) -> Exported:
    """Parses the description in a file.

    Raises:
        InputError: no description, or one that is damaged or of a newer version; the message names the file.
    """
    if not text:
        raise InputError(f"{path}: has no {KEY} metadata: not made by fishnet export, so classes and sizes are unknown")
    try:
        return Exported.from_text(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _threads(threads: int | None) -> int:
    """The number of threads; 0 for the library's choice. Raises InputError for less than one."""
    if threads is None:
        variable = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
        return int(variable) if variable.isdecimal() else 0
    if threads < 1:
        raise InputError(f"threads={threads}: must be 1 or more")
    return threads


def _open_onnx(path: Path, threads: int | None, device: str) -> RuntimeEngine:
    ort = _module("onnxruntime", path, "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = _threads(threads)
    options.log_severity_level = 3  # log errors only
    # A file may name other files that hold its weights. The file is passed as bytes, and onnxruntime looks for
    # other files in a folder that does not exist.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    providers = _providers(ort, device)
    try:
        session = ort.InferenceSession(read_bytes(path, _MAX_ONNX, "exported file"), options, providers)
    except InputError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base
        if "xternal" in str(error):
            raise InputError(
                f"{path}: refused: its weights are in other files: fishnet export writes them into the file"
            ) from error
        raise InputError(f"{path}: is not an ONNX file, or is damaged ({_reason(error)})") from error
    if session.get_providers()[0] != providers[0]:  # onnxruntime falls back without an exception
        raise InputError("device 'cuda' could not be used by onnxruntime: its CUDA libraries are missing; use cpu")
    exported = parse_description(path, session.get_modelmeta().custom_metadata_map.get(KEY))
    inputs = session.get_inputs()
    check_input(str(path), exported, [_onnx_dims(item.shape) for item in inputs])
    check_outputs(str(path), exported, {output.name: _onnx_dims(output.shape) for output in session.get_outputs()})
    if inputs[0].type != "tensor(float)":
        raise InputError(f"{path}: takes {inputs[0].type}, not float32: not written by fishnet export")
    image = inputs[0].name

    def prepare(names: tuple[str, ...]) -> Run:
        used = session
        if set(names) < set(exported.outputs):  # onnxruntime computes all outputs of a file, whichever are asked for
            used = ort.InferenceSession(
                reduced(read_bytes(path, _MAX_ONNX, "exported file"), names), options, providers
            )

        def run(batch: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
            try:
                outputs: Sequence[NDArray[Any]] = used.run(list(names), {image: batch})
            except Exception as error:  # onnxruntime's exceptions have no common base
                raise WorkError(f"{path}: could not be run ({_reason(error)})") from error
            return outputs

        return run

    return RuntimeEngine(exported, prepare, str(path), thread_safe=True)  # as onnxruntime documents


def _onnx_dims(shape: Sequence[Any]) -> list[int | None]:
    """Converts a shape of onnxruntime, in which strings stand for sides of any length."""
    return [side if isinstance(side, int) and side >= 0 else None for side in shape]


def _providers(ort: Any, device: str) -> list[str]:
    if device in ("auto", "cpu"):
        return ["CPUExecutionProvider"]
    if device == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    more = " (cuda comes with the package onnxruntime-gpu)" if device == "cuda" else ""
    raise InputError(f"device {device!r} is not available to onnxruntime here: choose auto or cpu{more}")


def _open_openvino(path: Path, threads: int | None, device: str, precision: str) -> RuntimeEngine:
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: OpenVINO files run on the CPU: choose auto or cpu")
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise InputError(f"{path}: its weights, {weights.name}, are not beside it: keep both files together")
    check_file(weights)
    ov = _module("openvino", path, "openvino")
    core = ov.Core()
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if count := _threads(threads):
        config["INFERENCE_NUM_THREADS"] = count
    try:
        model = core.read_model(str(path))
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    except Exception as error:
        raise InputError(f"{path}: is not an OpenVINO file, or is damaged ({_reason(error)})") from error
    exported = parse_description(path, text)
    requested = "bf16" if (precision, exported.precision) == ("auto", "bf16") else precision
    with full_instruction_set():  # the first question to the CPU's plugin reads the limit too
        used_precision = openvino_precision(requested, core)
        config["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[used_precision]
        try:
            compiled = core.compile_model(model, "CPU", config)
        except Exception as error:
            raise InputError(f"{path}: is not an OpenVINO file, or is damaged ({_reason(error)})") from error
    check_input(str(path), exported, [_openvino_dims(port) or () for port in compiled.inputs])
    shapes = {name: _openvino_dims(output) for output in compiled.outputs for name in output.names}
    check_outputs(str(path), exported, shapes)

    def prepare(names: tuple[str, ...]) -> Run:
        used = compiled
        if set(names) < set(exported.outputs):
            part = ov.Model([model.output(name) for name in names], model.get_parameters())
            with full_instruction_set():
                used = core.compile_model(part, "CPU", config)
        outputs, request = [used.output(name) for name in names], used.create_infer_request()

        def run(batch: NDArray[np.float32]) -> list[NDArray[Any]]:
            try:
                results = request.infer([batch], share_inputs=True, share_outputs=False)
            except Exception as error:
                raise WorkError(f"{path}: could not be run ({_reason(error)})") from error
            return [results[output] for output in outputs]

        return run

    return RuntimeEngine(exported, prepare, str(path), precision=used_precision)


def openvino_has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU. Raises ModuleNotFoundError if it is not installed."""
    import openvino as ov

    with full_instruction_set():
        return openvino_precision("bf16", ov.Core()) == "bf16"


@contextmanager
def full_instruction_set() -> Iterator[None]:
    """Removes ``ONEDNN_MAX_CPU_ISA`` from the environment while OpenVINO compiles its first model.

    OpenVINO's own oneDNN obeys that limit and its other kernels do not. Together they crash the process if the CPU has
    AVX-512 and the limit is AVX2 (seen with OpenVINO 2026).
    """
    with _ENVIRONMENT:
        limit = os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
        try:
            yield
        finally:
            if limit is not None:
                os.environ["ONEDNN_MAX_CPU_ISA"] = limit


def _openvino_dims(port: Any) -> list[int | None] | None:
    """Converts a shape of OpenVINO; None if not even the number of sides is known."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return None
    return [None if side.is_dynamic else side.get_length() for side in shape]


def _module(name: str, path: Path, extra: str) -> Any:
    """Imports a library that runs files. Raises InputError if it is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: running it needs {name}: pip install 'fishnet-vision[{extra}]'") from error


def _reason(error: Exception) -> str:
    """The informative line of a library's message, which may have many lines and begin with its place in the code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines and lines[0].startswith("Exception from") else first_line(error)
    return last.removeprefix("[ONNXRuntimeError] : ")[:200]
