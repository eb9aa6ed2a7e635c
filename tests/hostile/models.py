"""Model files that a stranger might send: bundles, exported files and checkpoints, each with its command line."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load, save

from tests.hostile.case import Case

BUNDLES = Path(__file__).parent.parent / "bundles"
CLASSIFIER, DETECTOR, SEGMENTER = (BUNDLES / f"schema-{number}" for number in (1, 2, 3))
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESS = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}


def image(folder: Path) -> str:
    """A small image."""
    path = folder / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return str(path)


def predicts(path: Path) -> list[str]:
    """The command that predicts an image with a model, beside which the image is written."""
    return ["predict", str(path), image(path.parent), "--json"]


def inspects(path: Path) -> list[str]:
    """The command that inspects a checkpoint."""
    return ["weights", "inspect", str(path)]


# --- bundles --------------------------------------------------------------------------------------------------------


def bundle(folder: Path, source: Path = CLASSIFIER, weights: bytes | None = None, **changes: Any) -> Path:
    """A real bundle with other values in its config, or other weights, whose hash then fits."""
    target = folder / "bundle"
    target.mkdir()
    values = {**json.loads((source / CONFIG).read_text(encoding="utf-8")), **changes}
    if weights is None:
        shutil.copy(source / WEIGHTS, target)
    else:
        (target / WEIGHTS).write_bytes(weights)
        values["sha256"] = hashlib.sha256(weights).hexdigest()
    (target / CONFIG).write_text(json.dumps(values), encoding="utf-8")
    return target


def changed(folder: Path, source: Path = CLASSIFIER, **changes: Any) -> list[str]:
    """Predicts with a bundle whose config was changed."""
    return predicts(bundle(folder, source, **changes))


def configured(folder: Path, text: str) -> list[str]:
    """Predicts with a bundle whose config is another text."""
    target = bundle(folder)
    (target / CONFIG).write_text(text, encoding="utf-8")
    return predicts(target)


def preprocessed(folder: Path, **changes: Any) -> list[str]:
    """Predicts with a bundle that prepares images in another way."""
    return changed(folder, preprocess={**PREPROCESS, **changes})


def weighted(folder: Path, change: Callable[[bytes], bytes], source: Path = CLASSIFIER) -> list[str]:
    """Predicts with a bundle whose weights were changed."""
    return predicts(bundle(folder, source, change((source / WEIGHTS).read_bytes())))


def with_value(content: bytes, value: float) -> bytes:
    """Weights with one value that is none."""
    tensors = load(content)
    name = next(name for name, tensor in tensors.items() if tensor.dtype == np.float32 and tensor.ndim == 4)
    tensors[name].flat[0] = value
    return save(tensors)


def with_enormous(content: bytes) -> bytes:
    """Weights that are finite, and too large to compute with."""
    tensors = load(content)
    return save({name: np.full_like(tensor, 3e38) if tensor.ndim == 4 else tensor for name, tensor in tensors.items()})


def with_extra(content: bytes) -> bytes:
    """Weights with one tensor more."""
    return save({**load(content), "extra": np.zeros(3, np.float32)})


def with_claim(content: bytes) -> bytes:
    """Weights whose header claims that a tensor is a million times as large."""
    length = int.from_bytes(content[:8], "little")
    rows = json.loads(content[8 : 8 + length])
    name = next(name for name in rows if name != "__metadata__")
    rows[name]["shape"] = [1_000_000, *rows[name]["shape"]]
    header = json.dumps(rows).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def with_pipe(folder: Path) -> list[str]:
    """A sound bundle with a pipe where an interrupted write would have left its config."""
    target = bundle(folder)
    os.mkfifo(target / f".{CONFIG}.partial")
    return predicts(target)


def with_device(folder: Path) -> list[str]:
    """A sound bundle with an endless device in that place."""
    target = bundle(folder)
    (target / f".{CONFIG}.partial").symlink_to("/dev/zero")
    return predicts(target)


# --- exported files -------------------------------------------------------------------------------------------------


def described(task: str = "classify", classes: int = 3, channels: int = 3, **changes: Any) -> str:
    """What an exported file says of itself."""
    config = {
        "schema": 1,
        "task": task,
        "backbone": "fishnet_nano",
        "classes": [{"id": i, "name": f"class {i}"} for i in range(classes)],
        "preprocess": {"size": [32, 32], "mean": [0.5] * channels, "std": [0.5] * channels},
    }
    values = {
        "schema": 2, "format": "onnx", "precision": "fp32", "outputs": ["logits"], "dynamic_batch": True, "size": None,
        "min_side": 32, "metrics": None, "bundle": config,
    }  # fmt: skip
    return json.dumps({**values, **changes})


def graph(text: str, weight: Any = None, op: str = "MatMul", domain: str = "") -> Any:
    """A small ONNX classifier of three channels and three classes, and what it says of itself."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w") if weight is None else weight
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node(op, ["flat", "w"], ["logits"], domain=domain),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])], [weight],
        ),
        opset_imports=[helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])],
        ir_version=10,
    )  # fmt: skip
    helper.set_model_props(model, {"fishnet": text})
    return model


def onnx(folder: Path, text: str | None = None, **options: Any) -> Path:
    """:func:`graph` as a file."""
    path = folder / "model.onnx"
    path.write_bytes(graph(described() if text is None else text, **options).SerializeToString())
    return path


HEADS = ("classify", "segment")
HEAD_OUTPUTS = ["classify/logits", "segment/logits"]


def heads_graph(text: str) -> Any:
    """A small ONNX model of two heads: a classifier of three classes and a segmenter of two."""
    from onnx import TensorProto, helper, numpy_helper

    sides = ["batch", 3, "height", "width"]
    weights = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32), "w"),
        numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "v"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], [HEAD_OUTPUTS[0]]),
        helper.make_node("Conv", ["image", "v"], [HEAD_OUTPUTS[1]]),
    ]
    shapes = ["batch", 3], ["batch", 2, *sides[2:]]
    model = helper.make_model(
        helper.make_graph(
            nodes, "heads", [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in zip(HEAD_OUTPUTS, shapes, strict=True)
            ],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    helper.set_model_props(model, {"fishnet": text})
    return model


def heads_described(classes: tuple[int, int] = (3, 2), heads: tuple[str, ...] = HEADS, **changes: Any) -> str:
    """What :func:`heads_graph` says of itself; each head is named after its task."""
    rows = {
        head: {"task": head, "classes": [{"id": i, "name": f"class {i}"} for i in range(count)]}
        for head, count in zip(heads, classes, strict=False)
    }
    config = {
        "schema": 4, "backbone": "fishnet_nano", "heads": rows, "preprocess": {**PREPROCESS, "fit": "whole"},
    }  # fmt: skip
    return described(**{"outputs": HEAD_OUTPUTS, "bundle": config, "min_side": 64, **changes})


def heads_say(folder: Path, **changes: Any) -> list[str]:
    """Predicts with an ONNX file of two heads that says something else of itself than is true."""
    path = folder / "model.onnx"
    path.write_bytes(heads_graph(heads_described(**changes)).SerializeToString())
    return predicts(path)


def onnx_says(folder: Path, **changes: Any) -> list[str]:
    """Predicts with an ONNX file that says something else of itself than is true."""
    return predicts(onnx(folder, described(**changes)))


def onnx_text(folder: Path, text: str) -> list[str]:
    """Predicts with an ONNX file that says this of itself."""
    return predicts(onnx(folder, text))


def onnx_nan(folder: Path) -> list[str]:
    """Predicts with an ONNX file whose outputs are NaN."""
    from onnx import numpy_helper

    return predicts(onnx(folder, weight=numpy_helper.from_array(np.full((3, 3), np.nan, np.float32), "w")))


def onnx_external(folder: Path, location: str) -> list[str]:
    """Predicts with an ONNX file that takes its weights from another one."""
    from onnx import TensorProto

    (folder / "other.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "36")):
        weight.external_data.add(key=key, value=value)
    return predicts(onnx(folder, weight=weight))


def onnx_custom(folder: Path) -> list[str]:
    """Predicts with an ONNX file that asks for an operation of a library of its own."""
    return predicts(onnx(folder, op="Anything", domain="com.example"))


def openvino_says(folder: Path, **changes: Any) -> list[str]:
    """Predicts with an OpenVINO file that says something else of itself than is true."""
    import openvino as ov

    source = onnx(folder)
    model = ov.Core().read_model(str(source))
    model.set_rt_info(described(**changes), ["fishnet"])
    ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    source.unlink()
    return predicts(folder / "model.xml")


MARK = "CODE-RAN"


class Runs:
    """A pickle that writes a file named :data:`MARK` where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@cache
def program() -> dict[str, bytes]:
    """The members of a real .pt2 file: a small classifier of three channels and three classes."""
    import torch
    from torch import Tensor, nn
    from torch.export import Dim

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(3, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.score(images.mean((2, 3)))  # type: ignore[no-any-return]

    shapes = {0: Dim("batch", min=1), 2: Dim("height", min=32), 3: Dim("width", min=32)}
    exported = torch.export.export(Small().eval(), (torch.zeros(2, 3, 96, 128),), dynamic_shapes=(shapes,))
    content = io.BytesIO()
    torch.export.save(exported, content, extra_files={"fishnet": described(to="pt2")})
    with zipfile.ZipFile(content) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pickled(path: Path) -> bytes:
    """A file of torch.save's whose pickle runs code."""
    import torch

    content = io.BytesIO()
    torch.save(Runs(path), content)
    return content.getvalue()


def pt2(folder: Path, kind: str) -> Path:
    """A .pt2 file that runs code as it is opened, by its weights, its sample inputs or an expression."""
    members, mark = dict(program()), folder / MARK
    if kind == "weights":
        (name,) = (name for name in members if name.endswith("model_weights_config.json"))
        config = json.loads(members[name])
        entry = next(iter(config["config"].values()))
        entry["use_pickle"] = True
        members[name] = json.dumps(config).encode()
        members[f"{name.rpartition('/')[0]}/{entry['path_name']}"] = pickled(mark)
    elif kind == "inputs":
        (name,) = (name for name in members if "/sample_inputs/" in name)
        members[name] = pickled(mark)
    elif kind == "expression":
        (name,) = (name for name in members if name.endswith("models/model.json"))
        text = json.loads(members[name])
        sizes = text["graph_module"]["graph"]["tensor_values"]["images"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(mark)!r}) or {sizes[0]['as_expr']['expr_str']}"
        members[name] = json.dumps(text).encode()
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pt2_predicts(folder: Path, kind: str) -> list[str]:
    """Predicts with a hostile .pt2 file."""
    return predicts(pt2(folder, kind))


def pt2_validates(folder: Path) -> list[str]:
    """Validates a hostile .pt2 file."""
    return ["val", str(pt2(folder, "weights")), str(folder)]


# --- checkpoints ----------------------------------------------------------------------------------------------------


def bomb(folder: Path) -> list[str]:
    """A zip of 6 MB that unpacks to 6.4 GB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    count = 6400
    data = block * count + packer.flush()
    name, size = b"a.pth", count << 20
    extra = struct.pack("<HHQQ", 1, 16, size, len(data))
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 8, 0, 33, 0, 2**32 - 1, 2**32 - 1, len(name), len(extra))
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 8, 0, 33, 0, 2**32 - 1, 2**32 - 1, len(name), len(extra), 0, 0, 0, 0, 0
    )
    place = len(local) + len(name) + len(extra) + len(data)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(name) + len(extra), place, 0)
    path = folder / "a.pth.zip"
    path.write_bytes(local + name + extra + data + central + name + extra + end)
    return inspects(path)


def saved(folder: Path, content: Any) -> Path:
    """A file of torch.save's."""
    import torch

    path = folder / "a.pth"
    torch.save(content, path)
    return path


def repickled(folder: Path, pickle_: bytes) -> list[str]:
    """Inspects a file of torch.save's with another pickle in it."""
    import torch

    path = saved(folder, {"a": torch.zeros(4)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickle_ if name.endswith("data.pkl") else content)
    return inspects(path)


def stretched(folder: Path) -> list[str]:
    """A tensor that claims 10^12 values and has one."""
    import torch

    return inspects(saved(folder, {"weight": torch.zeros(1).as_strided((10**6, 10**6), (0, 0))}))


def running(folder: Path) -> list[str]:
    """A pickle that runs code."""
    path = folder / "a.pth"
    path.write_bytes(pickled(folder / MARK))
    return inspects(path)


def old_running(folder: Path) -> list[str]:
    """The same, as Python's own pickle."""
    path = folder / "a.pth"
    path.write_bytes(pickle.dumps(Runs(folder / MARK)))
    return inspects(path)


def nan_checkpoint(folder: Path) -> list[str]:
    """Converts weights that are NaN."""
    path = folder / "a.safetensors"
    path.write_bytes(with_value((CLASSIFIER / WEIGHTS).read_bytes(), np.nan))
    return ["weights", "convert", str(path), str(folder / "out.safetensors")]


def safetensors(folder: Path, content: bytes) -> list[str]:
    """Inspects a file that is no safetensors file."""
    path = folder / "a.safetensors"
    path.write_bytes(content)
    return inspects(path)


def pipe(folder: Path, name: str) -> list[str]:
    """A pipe where a model should be."""
    path = folder / name
    os.mkfifo(path)
    return inspects(path) if path.suffix in (".pth", ".safetensors") else predicts(path)


def device(folder: Path, name: str) -> list[str]:
    """An endless device where a model should be."""
    path = folder / name
    path.symlink_to("/dev/zero")
    return inspects(path) if path.suffix in (".pth", ".safetensors") else predicts(path)


def resumed(folder: Path, content: Any) -> list[str]:
    """Goes on with a training whose last checkpoint is something else."""
    for name in ("ant", "bee"):
        for i in range(3):
            path = folder / "data" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 80 * i, np.uint8)).save(path)
    last = folder / "out" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    (folder / "out" / "recipe.yaml").write_text("backbone: fishnet_nano\nsize: 32\n")
    if isinstance(content, bytes):
        last.write_bytes(content)
    else:
        saved(last.parent, content).rename(last)
    return ["train", "classify", str(folder / "data"), "--resume", str(folder / "out"), "--quiet"]


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


FILLER = b"\x80\x02cbuiltins\nbytearray\nJ" + (2**30).to_bytes(4, "little") + b"\x85R."

CASES = [
    Case("pt2-weights-run-code", partial(pt2_predicts, kind="weights"), 2, ("model.pt2", "--trust")),
    Case("pt2-sample-inputs-run-code", partial(pt2_predicts, kind="inputs"), 2, ("model.pt2", "--trust")),
    Case("pt2-expression-runs-code", partial(pt2_predicts, kind="expression"), 2, ("model.pt2", "--trust")),
    Case("pt2-validated", pt2_validates, 2, ("model.pt2", "--trust")),
    Case("bundle-backbone-on-a-hub", partial(changed, backbone="hf-hub:timm/resnet18"), 2, ("registered network",)),
    Case("bundle-backbone-in-a-folder", partial(changed, backbone="local-dir:/tmp"), 2, ("registered network",)),
    Case("bundle-backbone-unknown", partial(changed, backbone="fishnet_giga"), 2, ("unknown backbone",)),
    Case(
        "bundle-args-load-a-file", partial(changed, backbone_args={"checkpoint_path": "/etc/passwd"}), 2,
        ("checkpoint_path", "does not belong"),
    ),
    Case(
        "bundle-args-fetch-weights", partial(changed, backbone_args={"pretrained_cfg_overlay": {"url": "http://x"}}), 2,
        ("pretrained_cfg_overlay", "does not belong"),
    ),
    Case("bundle-size-of-100000", partial(preprocessed, size=[100_000, 100_000]), 2, ("config.json", "size")),
    Case("bundle-width-of-10-to-the-8", partial(changed, source=SEGMENTER, head_args={"width": 10**8}), 2, ("width",)),
    Case("bundle-width-of-another", partial(changed, source=SEGMENTER, head_args={"width": 4096}), 2, ("misshapen",)),
    Case(
        "bundle-depth-of-a-million", partial(changed, backbone="resnet18", backbone_args={"layers": [10**6, 2, 2, 2]}),
        2, ("backbone_args",),
    ),
    Case(
        "bundle-depth-of-99999", partial(changed, backbone="resnet18", backbone_args={"layers": [99_999, 2, 2, 2]}),
        2, ("parameters",),
    ),
    Case("bundle-another-network", partial(changed, backbone="resnet18"), 2, ("the weights are not those",)),
    Case("bundle-classes-that-are-not-there", partial(changed, classes=[{"id": 0, "name": "a"}]), 2, ("misshapen",)),
    Case("bundle-nan-weight", partial(weighted, change=partial(with_value, value=np.nan)), 2, ("not finite",)),
    Case("bundle-infinite-weight", partial(weighted, change=partial(with_value, value=np.inf)), 2, ("not finite",)),
    Case("bundle-enormous-weights", partial(weighted, change=with_enormous), 1, ("not finite",)),
    Case("bundle-enormous-detector", partial(weighted, change=with_enormous, source=DETECTOR), 1, ("not finite",)),
    Case("bundle-enormous-segmenter", partial(weighted, change=with_enormous, source=SEGMENTER), 1, ("not finite",)),
    Case("bundle-std-of-1e-320", partial(preprocessed, std=[1e-320] * 3), 2, ("config.json", "std")),
    Case("bundle-mean-of-1e300", partial(preprocessed, mean=[1e300] * 3), 2, ("config.json", "mean")),
    Case("bundle-nan-threshold", partial(changed, thresholds={"score": np.nan}), 2, ("config.json", "NaN")),
    Case("bundle-threshold-of-2", partial(changed, thresholds={"score": 2}), 2, ("config.json", "thresholds: score")),
    Case("bundle-config-nested-deeply", partial(configured, text=_deep(100_000)), 2, ("config.json", "nested")),
    Case("bundle-config-of-5000-digits", partial(configured, text=f'{{"schema": {"9" * 5000}}}'), 2, ("config.json",)),
    Case("bundle-config-with-a-class-of-lists", partial(changed, classes=[[1]]), 2, ("config.json", "classes")),
    Case("bundle-pipe-beside-it", with_pipe, 0),
    Case("bundle-device-beside-it", with_device, 0),
    Case("bundle-weights-cut-off", partial(weighted, change=lambda content: content[:-100]), 2, ("safetensors",)),
    Case("bundle-weights-no-safetensors", partial(weighted, change=lambda _: b"weights"), 2, ("safetensors",)),
    Case("bundle-weights-with-one-more", partial(weighted, change=with_extra), 2, ("unexpected", "extra")),
    Case("bundle-weights-that-claim-more", partial(weighted, change=with_claim), 2, ("safetensors",)),
    Case("onnx-nine-names-for-three-outputs", partial(onnx_says, classes=9), 2, ("9 classes", "3")),
    Case("onnx-another-number-of-channels", partial(onnx_says, channels=4), 2, ("(any, 4, any, any)", "3")),
    Case("onnx-another-task", partial(onnx_says, task="segment"), 2, ("segment", "(any, 3)")),
    Case("onnx-a-detector-without-boxes", partial(onnx_says, task="detect"), 2, ("detect", "logits")),
    Case("onnx-one-size-only-it-says", partial(onnx_says, size=[10**6, 10**6]), 2, ("size",)),
    Case("onnx-heads-that-are-there", heads_say, 0),
    Case("onnx-heads-of-other-classes", partial(heads_say, classes=(3, 5)), 2, ("segment: ", "5 classes", "2")),
    Case("onnx-heads-classes-exchanged", partial(heads_say, classes=(2, 3)), 2, ("classify: ", "2 classes", "3")),
    Case(
        "onnx-output-of-another-head", partial(heads_say, outputs=[*HEAD_OUTPUTS, "wings/logits"]), 2,
        ("wings", "classify, segment"),
    ),
    Case("onnx-output-of-no-head", partial(heads_say, outputs=["logits", HEAD_OUTPUTS[1]]), 2, ("classify",)),
    Case("onnx-head-without-outputs", partial(heads_say, outputs=HEAD_OUTPUTS[:1]), 2, ("segment", "does not have")),
    Case("onnx-one-head-only-it-says", partial(heads_say, heads=HEADS[:1]), 2, ("classify", "does not have")),
    Case(
        "onnx-head-the-graph-lacks",
        partial(heads_say, classes=(3, 2, 2), heads=("classify", "segment", "detect"),
                outputs=[*HEAD_OUTPUTS, "detect/boxes", "detect/scores", "detect/labels"]),
        2, ("detect/boxes", "the file does not"),
    ),
    Case("onnx-weights-elsewhere", partial(onnx_external, location="other.bin"), 2, ("refused", "other files")),
    Case("onnx-weights-far-away", partial(onnx_external, location="/etc/passwd"), 2, ("refused", "other files")),
    Case("onnx-custom-operation", onnx_custom, 2, ("model.onnx",)),
    Case("onnx-nan-outputs", onnx_nan, 1, ("not finite",)),
    Case("onnx-says-deep-json", partial(onnx_text, text=_deep(100_000)), 2, ("model.onnx", "nested")),
    Case("onnx-says-5000-digits", partial(onnx_text, text=f'{{"schema": {"9" * 5000}}}'), 2, ("model.onnx",)),
    Case("onnx-says-nothing", partial(onnx_text, text=""), 2, ("model.onnx", "metadata")),
    Case("onnx-pipe", partial(pipe, name="model.onnx"), 2, ("named pipe",)),
    Case("onnx-device", partial(device, name="model.onnx"), 2, ("a device",)),
    Case("openvino-nine-names-for-three-outputs", partial(openvino_says, classes=9), 2, ("9 classes", "3")),
    Case("checkpoint-of-6-gigabytes-zipped", bomb, 2, ("a.pth.zip", "unpack")),
    Case("checkpoint-fills-memory", partial(repickled, pickle_=FILLER), 2, ("bytearray",)),
    Case("checkpoint-claims-more-than-it-has", stretched, 2, ("claims",)),
    Case("checkpoint-runs-code", running, 2, ("could run any code",)),
    Case("checkpoint-runs-code-in-an-old-format", old_running, 2, ("a.pth",)),
    Case("checkpoint-pipe", partial(pipe, name="a.pth"), 2, ("named pipe",)),
    Case("checkpoint-device", partial(device, name="a.pth"), 2, ("a device",)),
    Case("checkpoint-nan", nan_checkpoint, 2, ("not finite",)),
    Case("safetensors-device", partial(device, name="a.safetensors"), 2, ("a device",)),
    Case("safetensors-of-nothing", partial(safetensors, content=b"\x00" * 64), 2, ("safetensors",)),
    Case("safetensors-header-of-gigabytes", partial(safetensors, content=b"\xff" * 64), 2, ("safetensors",)),
    Case(
        "safetensors-header-nested-deeply",
        partial(safetensors, content=struct.pack("<Q", 200_000) + _deep(100_000).encode()), 2, ("nested",),
    ),
    Case("resumed-from-rubbish", partial(resumed, content=b"rubbish"), 2, ("last.ckpt", "nothing to resume")),
    Case("resumed-from-a-list", partial(resumed, content=[1, 2]), 2, ("last.ckpt", "nothing to resume")),
    Case(
        "resumed-from-another-place", partial(resumed, content={"position": {"epoch": -5}}), 2,
        ("last.ckpt", "nothing to resume"),
    ),
    Case(
        "resumed-without-weights", partial(resumed, content={"position": {"epoch": 0, "batches": 0, "step": 0}}), 2,
        ("last.ckpt", "cannot be resumed"),
    ),
]  # fmt: skip
