"""Exported files so small that they are written at once: what they compute is the mean, or the input itself."""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.runtime.exported import KEY, Exported

COLOURS = Classes(("red", "green", "blue"), (3, 1, 2))


def tiny(folder: Path, task: str = "classify", **preprocess: Any) -> str:
    """``model.onnx`` in a folder: of a classifier whose logits are the channels' means, or of a segmenter whose logits
    are the channels themselves. Needs no torch.

    Args:
        folder: it is there.
        task: ``classify`` or ``segment``.
        preprocess: how images become input, 3 channels unless ``mean`` and ``std`` say otherwise.
    """
    segment = task == "segment"
    default: dict[str, Any] = {"size": (64, 256), "fit": "whole"} if segment else {"size": (64, 64)}
    how = Preprocess(**{**default, "mean": (0.5,) * 3, "std": (0.5,) * 3, **preprocess})
    shape = ["batch", how.channels, "height", "width"]
    if segment:
        nodes, out = [helper.make_node("Identity", ["image"], ["logits"])], shape
    else:
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["logits"]),
        ]
        out = ["batch", how.channels]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, out)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    classes = COLOURS if how.channels == 3 else Classes.of(f"class {c}" for c in range(how.channels))
    bundle = Bundle.single(task, "tiny", classes, how, sha256="0" * 64)
    helper.set_model_props(model, {KEY: Exported(bundle, "onnx", min_side=32).to_text()})
    path = folder / "model.onnx"
    onnx.save(model, path)
    return str(path)
