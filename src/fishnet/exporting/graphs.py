"""Writes a model in another format: ONNX, OpenVINO or torch.export. Nothing is checked here.

Images are resized, padded and normalized outside the graph, by :class:`~fishnet.images.preprocess.Preprocess`, so that
exporters cannot get it wrong. torch has two ONNX exporters. The newer one (dynamo) analyses the program and exports
classifiers and segmenters for any size and batch size. It does not support detectors, whose shapes depend on the number
of detections. The older one traces the computation on an example, and exports them for any size: one-stage detectors
for any number of images (see :mod:`fishnet.exporting.detections`), two-stage ones for one.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, WorkError, first_line
from fishnet.exporting.outputs import EXAMPLE, graph_of, only_logits, outputs_of, takes_batches
from fishnet.exporting.pooling import replace_pools
from fishnet.exporting.rewriting import optimise
from fishnet.images.preprocess import DIVISOR
from fishnet.runtime.exported import KEY, LOGITS, MIN_SIDE, RAW, Exported, label, with_heads
from fishnet.tasks.detection.heads import Detector, OneStage
from fishnet.tasks.info import task_info
from fishnet.tasks.model import Model

OPSET = 18  # Resize as torch's exporters write it; onnxruntime 1.25 and OpenVINO 2025 read it
_TRACING_OPSET = 17  # the highest in which the older exporter writes NMS and RoIAlign
_RAW_EXAMPLE = 288, 256  # height and width whose coarsest map, at stride 128, is more than one px


def describe(model: Model, bundle: Bundle) -> Exported:
    """Returns the description of a model's ONNX file."""
    size = fixed_size(model, bundle)
    exported = Exported(
        bundle, "onnx", outputs=with_heads(outputs_of(model)), dynamic_batch=takes_batches(model), size=size
    )
    smallest = MIN_SIDE if exported.any_size else min(size or bundle.preprocess.size)
    return replace(exported, min_side=min(MIN_SIDE, smallest))


def fixed_size(model: Model, bundle: Bundle) -> tuple[int, int] | None:
    """Returns the only height and width that a file takes; None if it takes any.

    This is the size of the crop if the network of a classifier takes no other, or if a head that needs multiples of 32
    px has a crop of another size: the trunk then pads it within the graph.
    """
    height, width = bundle.preprocess.size
    if any(task_info(head.task).any_size for head in bundle.heads.values()):
        fits = all(side % DIVISOR == 0 and side >= MIN_SIDE for side in (height, width))
        return None if fits or bundle.preprocess.fit != "crop" else (height, width)
    channels = bundle.preprocess.channels
    try:
        with torch.no_grad():
            for more in ((DIVISOR, 2 * DIVISOR), (24, 56)):  # px: multiples of 32, and other numbers
                model(torch.zeros(1, channels, height + more[0], width + more[1]))
    except Exception:  # networks raise errors of any kind for a size that they do not take
        return height, width
    return None


Exporter = Callable[[nn.Module, Exported, Path], None]


def exporters(model: Model) -> tuple[Exporter, ...]:
    """Returns the ONNX exporters to try with a model, the better one first."""
    return (_export_dynamo, _export_traced) if only_logits(model) else (_export_traced,)


def write_onnx(
    model: Model, bundle: Bundle, path: Path, exporter: Exporter | None = None, *, plain: bool = False
) -> Exported:
    """Writes a model as one ONNX file, with its weights and :class:`Exported` inside.

    Args:
        model: in evaluation mode, on the CPU.
        bundle: the model's config.
        path: the file; an old one is overwritten.
        exporter: one of :func:`exporters`; by default the first.
        plain: do not rewrite the graph for onnxruntime, see :mod:`fishnet.exporting.rewriting`.

    Raises:
        WorkError: torch's exporter failed.
    """
    exported = describe(model, bundle)
    graph = replace_pools(graph_of(model, exported))
    try:
        with _quiet(), torch.no_grad():
            (exporter or exporters(model)[0])(graph.eval(), exported, path)
            _finish(path, exported, plain)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise WorkError(f"torch could not export this model to ONNX ({first_line(error)})") from error
    return exported


def _export_dynamo(graph: nn.Module, exported: Exported, path: Path) -> None:
    """Exports with the newer exporter, which analyses the program."""
    from torch.export import Dim

    batch, height, width = EXAMPLE
    shapes: dict[int, Any] = {0: Dim("batch", min=1)}
    if exported.size is not None:
        height, width = exported.size
    else:
        shapes |= {2: _side("height", exported), 3: _side("width", exported)}
    image = torch.randn(batch, exported.bundle.preprocess.channels, height, width)
    program = torch.onnx.export(
        graph, (image,), input_names=["image"], output_names=list(exported.outputs), dynamo=True, opset_version=OPSET,
        dynamic_shapes=(shapes,), verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)


def _side(name: str, exported: Exported) -> Any:
    from torch.export import Dim

    # MIN_SIDE even for networks of smaller images, because a map of one px would look like a constant
    if not exported.any_size:
        return Dim(name, min=MIN_SIDE)
    return DIVISOR * Dim(name, min=MIN_SIDE // DIVISOR)


def _export_traced(graph: nn.Module, exported: Exported, path: Path) -> None:
    """Exports with the older exporter, which traces the computation on an example."""
    batch, height, width = EXAMPLE
    height, width = exported.size or (height, width)
    axes = {"image": {} if exported.size else {2: "height", 3: "width"}}
    for head, names in exported.heads.items():
        is_map = task_info(exported.bundle.heads[head].task).output == "label map"
        for output, name in zip(exported.graph_names(head), names, strict=True):
            axes[output] = {} if exported.dynamic_batch else {0: "objects"}
            if name in LOGITS:
                axes[output] = {2: "height", 3: "width"} if is_map and not exported.size else {}
    if exported.dynamic_batch:
        for sides in axes.values():
            sides[0] = "batch"
    image = torch.randn(batch if exported.dynamic_batch else 1, exported.bundle.preprocess.channels, height, width)
    torch.onnx.export(
        graph, (image,), str(path), input_names=["image"], output_names=list(exported.outputs), dynamo=False,
        opset_version=_TRACING_OPSET, dynamic_axes=axes, external_data=False,
    )  # fmt: skip


def _finish(path: Path, exported: Exported, plain: bool) -> None:
    """Rewrites the graph for speed, adds the description, and removes exporters' notes, which contain local paths."""
    import onnx

    model = onnx.load(str(path))
    for node in [*model.graph.node, *(n for function in model.functions for n in function.node)]:
        node.doc_string = ""
        del node.metadata_props[:]
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    if not plain:
        model = optimise(model)
    model.producer_name = "fishnet-vision"
    onnx.checker.check_model(model)
    describe_onnx(model, exported)
    onnx.save(model, str(path))


def describe_onnx(model: Any, exported: Exported) -> None:
    """Sets the description inside an ONNX model."""
    import onnx

    kept = {prop.key: prop.value for prop in model.metadata_props if prop.key != KEY}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, KEY: exported.to_text()})


def rewrite_description(path: Path, exported: Exported) -> None:
    """Replaces the description inside an exported file (.onnx, or .xml with its .bin)."""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        describe_onnx(model, exported)
        onnx.save(model, str(path))
        return
    import openvino as ov

    graph = ov.Core().read_model(str(path))
    graph.set_rt_info(exported.to_text(), [KEY])
    fresh = path.with_name(f"{path.stem}.new.xml")
    ov.save_model(graph, str(fresh), compress_to_fp16=False)
    del graph  # it maps the weights' file
    for suffix in (".bin", ".xml"):
        fresh.with_suffix(suffix).replace(path.with_suffix(suffix))


def write_openvino(onnx: Path, path: Path, exported: Exported) -> Exported:
    """Writes an ONNX file as OpenVINO's IR: ``path`` (.xml) and its .bin, weights in float32.

    Args:
        onnx: the file, written by :func:`write_onnx` with ``plain``.
        path: the .xml file.
        exported: the description of the ONNX file.

    Raises:
        WorkError: OpenVINO cannot convert the file.
    """
    import openvino as ov

    exported = replace(exported, format="openvino")
    try:
        graph = ov.convert_model(str(onnx))
        graph.set_rt_info(exported.to_text(), [KEY])
        ov.save_model(graph, str(path), compress_to_fp16=False)
    except Exception as error:
        raise WorkError(f"OpenVINO could not convert this model ({first_line(error)})") from error
    return exported


def write_pt2(model: Model, bundle: Bundle, path: Path) -> Exported:
    """Writes a model as one program of torch.export.

    The program of a one-stage detector ends with its head's raw outputs, because the shapes of later steps depend on
    the number of detections. In a two-stage detector, shapes already depend on the proposals.

    Raises:
        InputError: the model is a two-stage detector.
        WorkError: torch cannot export the model.
    """
    refuse_pt2(model, bundle)
    exported = replace(describe(model, bundle), format="pt2")
    if exported.min_side < MIN_SIDE:  # a program whose coarsest map is one px only takes the size of its example
        exported = replace(exported, size=bundle.preprocess.size)
    batch, height, width = EXAMPLE
    shapes: dict[int, Any] = {} if exported.size else {2: _side("height", exported), 3: _side("width", exported)}
    if raw := not only_logits(model):
        kinds = {name: RAW.get(config.head, LOGITS) for name, config in bundle.heads.items()}
        exported = replace(exported, outputs=with_heads(kinds), dynamic_batch=False)
        batch, (height, width) = 1, _RAW_EXAMPLE
    else:
        from torch.export import Dim

        shapes[0] = Dim("batch", min=1)
    height, width = exported.size or (height, width)
    graph = graph_of(model, exported)
    image = torch.randn(batch, bundle.preprocess.channels, height, width)
    try:
        with _quiet(), _generic_size_one(raw), torch.no_grad():
            program = torch.export.export(graph.eval(), (image,), dynamic_shapes=(shapes,))
    except Exception as error:
        raise WorkError(f"torch.export could not export this model ({first_line(error)})") from error
    with _quiet():
        torch.export.save(program, str(path), extra_files={KEY: exported.to_text()})
    return exported


def refuse_pt2(model: Model, bundle: Bundle) -> None:
    """Raises InputError for a model that torch.export does not support."""
    for name, head in model.heads.items():
        if isinstance(head, Detector) and not isinstance(head, OneStage):
            raise InputError(
                f"{label(bundle, name)}{bundle.heads[name].head} cannot be exported to pt2: torch.export does not "
                "support a second stage, whose shapes depend on the first stage's proposals: export to onnx or openvino"
            )


@contextmanager
def _generic_size_one(enabled: bool) -> Iterator[None]:
    """Makes torch.export treat a map of one px like any other: up to 128 px the coarsest map has one px."""
    if not enabled:
        yield
        return
    from torch.fx.experimental import _config as config

    with config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences exporters, which log a lot. Errors are still raised."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
