"""From a model in memory to a file of another program: ONNX, OpenVINO, torch.export. Nothing is checked here.

Images are resized, padded and normalized outside the graph, by :class:`~fishnet.images.preprocess.Preprocess`: what
an exporter does not see, it cannot get wrong. Two of torch's exporters write ONNX. The newer one follows the program
and takes classifiers and segmenters at any size and batch. torchvision's detectors count what they find as they run,
which it cannot follow, and the older one, which follows an image, can: for one image at a time, of any size.
"""

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, WorkError, first_line
from fishnet.exporting.folding import folded
from fishnet.exporting.pooling import replace_pools
from fishnet.exporting.rewriting import optimise
from fishnet.images.preprocess import DIVISOR
from fishnet.runtime.exported import BOXES, KEY, LOGITS, MASKS, MIN_SIDE, Exported
from fishnet.tasks.detection.heads import Detector, OneStage
from fishnet.tasks.info import task_info
from fishnet.tasks.model import Model

OPSET = 18  # Resize as torch's exporters write it; onnxruntime 1.25 and OpenVINO 2025 read it
_OLD_OPSET = 17  # the highest that the older exporter writes NMS and RoIAlign in
_TRACED = 2, 96, 128  # batch, height and width that are followed; none of them 1, no two alike
_TRACED_RAW = 288, 256  # sides whose coarsest map, at stride 128, is more than a px


class Raw(nn.Module):
    """A one-stage detector up to its head's outputs: (1, anchors over all levels, values) each, by its names."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, channels, height, width), normalized -> the head's outputs."""
        _, head = self.model.only_head
        maps = head.pyramid(self.model.features(image))
        outputs: dict[str, Tensor] = head.net.head(list(maps.values()))
        return tuple(outputs[name] for name in self.names())

    def names(self) -> tuple[str, ...]:
        """Of its outputs."""
        _, head = self.model.only_head
        with torch.no_grad():
            parameters = next(head.parameters())
            maps = [parameters.new_zeros(1, head.spec.width, 1, 1) for _ in head.strides]
            return tuple(head.net.head(maps))


class Objects(nn.Module):
    """A detector's objects in the one image of a batch: boxes, scores, labels and perhaps masks."""

    def __init__(self, model: Model, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, channels, height, width), normalized -> see :class:`~fishnet.runtime.exported.Exported`."""
        name, _ = self.model.only_head
        (found,) = self.model(image)[name]
        return tuple(found[name] for name in self.names)


class Logits(nn.Module):
    """A classifier's or a segmenter's logits."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(batch, channels, height, width), normalized -> logits of the only head."""
        name, _ = self.model.only_head
        logits: Tensor = self.model(image)[name]
        return logits


def outputs_of(model: Model) -> tuple[str, ...]:
    """Names of what an exported model gives."""
    _, head = model.only_head
    if not isinstance(head, Detector):
        return LOGITS
    return MASKS if getattr(head, "with_masks", False) else BOXES


def _graph(model: Model, it: Exported) -> nn.Module:
    """A copy of the model that gives what the file gives."""
    plain = lean(model, it)
    return Logits(plain) if it.outputs == LOGITS else Objects(plain, it.outputs)


def describe(model: Model, bundle: Bundle) -> Exported:
    """What an ONNX file of a model will say of itself."""
    outputs, size = outputs_of(model), fixed_size(model, bundle)
    smallest = MIN_SIDE if task_info(bundle.task).any_size else min(size or bundle.preprocess.size)
    return Exported(
        bundle, "onnx", outputs=outputs, dynamic_batch=outputs == LOGITS, size=size, min_side=min(MIN_SIDE, smallest)
    )


def fixed_size(model: Model, bundle: Bundle) -> tuple[int, int] | None:
    """Height and width that a classifier's network takes and no others; None where it takes any."""
    if task_info(bundle.task).any_size:
        return None
    height, width = bundle.preprocess.size
    channels = bundle.preprocess.channels
    try:
        with torch.no_grad():
            for more in ((DIVISOR, 2 * DIVISOR), (24, 56)):  # in steps of 32, and beside them
                model(torch.zeros(1, channels, height + more[0], width + more[1]))
    except Exception:  # whatever it is that such a network raises
        return height, width
    return None


def lean(model: Model, it: Exported) -> Model:
    """A copy of the model with its norms folded, where that changes nothing beyond rounding: see :func:`folded`."""
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # other orders make shapes look special
    _, height, width = _TRACED
    return folded(plain, torch.randn(1, it.bundle.preprocess.channels, *(it.size or (height, width))))


Way = Callable[[nn.Module, Exported, Path], None]


def ways(model: Model) -> tuple[Way, ...]:
    """The ways to an ONNX file that are worth trying with a model, the better one first."""
    return (_followed, _traced) if outputs_of(model) == LOGITS else (_traced,)


def write_onnx(model: Model, bundle: Bundle, path: Path, way: Way | None = None, *, plain: bool = False) -> Exported:
    """Writes a model as one ONNX file, its weights and :class:`Exported` inside.

    Args:
        model: in evaluation mode, on the CPU.
        bundle: what it is.
        path: of the file; an old one is overwritten.
        way: one of :func:`ways`; by default the first.
        plain: leave the graph as it is, for programs other than onnxruntime: see :mod:`fishnet.exporting.rewriting`.

    Raises:
        WorkError: torch's exporter failed.
    """
    it = describe(model, bundle)
    graph = replace_pools(_graph(model, it))
    try:
        with _quiet(), torch.no_grad():
            (way or ways(model)[0])(graph.eval(), it, path)
            _finish(path, it, plain)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise WorkError(f"torch could not export this model to ONNX ({first_line(error)})") from error
    return it


def _followed(graph: nn.Module, it: Exported, path: Path) -> None:
    """By the exporter that follows the program."""
    from torch.export import Dim

    batch, height, width = _TRACED
    shapes: dict[int, Any] = {0: Dim("batch", min=1)}
    if it.size is not None:
        height, width = it.size
    else:
        shapes |= {2: _side("height", it), 3: _side("width", it)}
    image = torch.randn(batch, it.bundle.preprocess.channels, height, width)
    program = torch.onnx.export(
        graph, (image,), input_names=["image"], output_names=list(it.outputs), dynamo=True, opset_version=OPSET,
        dynamic_shapes=(shapes,), verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)


def _side(name: str, it: Exported) -> Any:
    from torch.export import Dim

    if not task_info(
        it.bundle.task
    ).any_size:  # MIN_SIDE for smaller ones too: a map of one px would look like a constant
        return Dim(name, min=MIN_SIDE)
    return DIVISOR * Dim(name, min=MIN_SIDE // DIVISOR)


def _traced(graph: nn.Module, it: Exported, path: Path) -> None:
    """By the exporter that follows an image."""
    batch, height, width = _TRACED
    height, width = it.size or (height, width)
    axes: dict[str, dict[int, str]] = {"image": {} if it.size else {2: "height", 3: "width"}}
    if it.dynamic_batch:
        axes["image"][0] = "batch"
        axes["logits"] = {0: "batch", 2: "height", 3: "width"} if task_info(it.bundle.task).any_size else {0: "batch"}
    else:
        axes |= {name: {0: "objects"} for name in it.outputs}
    image = torch.randn(batch if it.dynamic_batch else 1, it.bundle.preprocess.channels, height, width)
    torch.onnx.export(
        graph, (image,), str(path), input_names=["image"], output_names=list(it.outputs), dynamo=False,
        opset_version=_OLD_OPSET, dynamic_axes=axes, external_data=False,
    )  # fmt: skip


def _finish(path: Path, it: Exported, plain: bool) -> None:
    """Makes the graph faster, writes what it says of itself, and takes out what an exporter noted of this machine."""
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
    describe_onnx(model, it)
    onnx.save(model, str(path))


def describe_onnx(model: Any, it: Exported) -> None:
    """Sets what an ONNX model says of itself."""
    import onnx

    kept = {prop.key: prop.value for prop in model.metadata_props if prop.key != KEY}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, KEY: it.to_text()})


def rewrite(path: Path, it: Exported) -> None:
    """Has an exported file (.onnx, or .xml with its .bin) say something else of itself."""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        describe_onnx(model, it)
        onnx.save(model, str(path))
        return
    import openvino as ov

    graph = ov.Core().read_model(str(path))
    graph.set_rt_info(it.to_text(), [KEY])
    fresh = path.with_name(f"{path.stem}.new.xml")
    ov.save_model(graph, str(fresh), compress_to_fp16=False)
    del graph  # it maps the weights' file
    for suffix in (".bin", ".xml"):
        fresh.with_suffix(suffix).replace(path.with_suffix(suffix))


def write_openvino(onnx: Path, path: Path, it: Exported) -> Exported:
    """Writes an ONNX file as OpenVINO's IR: ``path`` (.xml) and its .bin, weights in float32.

    Args:
        onnx: from :func:`write_onnx`, plain.
        path: of the .xml.
        it: what the ONNX file says of itself.

    Raises:
        WorkError: OpenVINO does not take it.
    """
    import openvino as ov

    it = replace(it, format="openvino")
    try:
        graph = ov.convert_model(str(onnx))
        graph.set_rt_info(it.to_text(), [KEY])
        ov.save_model(graph, str(path), compress_to_fp16=False)
    except Exception as error:
        raise WorkError(f"OpenVINO could not convert this model ({first_line(error)})") from error
    return it


def write_pt2(model: Model, bundle: Bundle, path: Path) -> Exported:
    """Writes a model as one program of torch.export.

    One-stage detectors end with their head's raw outputs: what comes after counts what it finds as it runs. So does all
    of a two-stage detector beyond its proposals.

    Raises:
        InputError: a two-stage detector.
        WorkError: torch could not follow the model.
    """
    refuse_pt2(model, bundle)
    it = replace(describe(model, bundle), format="pt2")
    if it.min_side < MIN_SIDE:  # a program whose coarsest map is one px is of that size alone
        it = replace(it, size=bundle.preprocess.size)
    batch, height, width = _TRACED
    shapes: dict[int, Any] = {} if it.size else {2: _side("height", it), 3: _side("width", it)}
    graph: nn.Module
    if isinstance(model.only_head[1], OneStage):
        graph = Raw(lean(model, it))
        it = replace(it, outputs=graph.names())
        batch, (height, width) = 1, _TRACED_RAW
    else:
        from torch.export import Dim

        graph = _graph(model, it)
        shapes[0] = Dim("batch", min=1)
        height, width = it.size or (height, width)
    image = torch.randn(batch, bundle.preprocess.channels, height, width)
    try:
        with _quiet(), _sizes_of_one(isinstance(graph, Raw)), torch.no_grad():
            program = torch.export.export(graph.eval(), (image,), dynamic_shapes=(shapes,))
    except Exception as error:
        raise WorkError(f"torch.export could not follow this model ({first_line(error)})") from error
    with _quiet():
        torch.export.save(program, str(path), extra_files={KEY: it.to_text()})
    return it


def refuse_pt2(model: Model, bundle: Bundle) -> None:
    """Raises InputError for a model that has no program of torch.export's."""
    _, head = model.only_head
    if isinstance(head, Detector) and not isinstance(head, OneStage):
        raise InputError(
            f"{bundle.head} cannot be exported to pt2: torch.export cannot follow a second stage, whose work depends "
            "on what the first one finds: export to onnx or openvino"
        )


@contextmanager
def _sizes_of_one(wanted: bool) -> Iterator[None]:
    """Has torch.export treat a map of one px as any other: a detector's coarsest level is one, up to 128 px."""
    if not wanted:
        yield
        return
    from torch.fx.experimental import _config as config

    with config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk much, and of their own affairs; an error still comes as an exception."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
