"""``fishnet export BUNDLE``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def export(
    bundle: str,
    /,
    *,
    to: Literal["onnx", "openvino", "pt2"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    out: Path | None = None,
    images: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    data: str | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    max_drop: float = 1.0,
    calibration: int = 128,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Export a bundle to a file that runs without torch (pt2 needs torch). The file is kept only if it agrees with the
    bundle.

    The file contains class names, preprocessing and thresholds. It is compared with the bundle on real images at three
    sizes. In fp32, logits must agree within 1e-4 of their range. The boxes of detections must agree within 0.1 px,
    scores within 1e-4, and masks within 0.5 % of the box. fp16 has wider limits. If the two differ by more, the file is
    not kept and the exit code is 1.

    Parameters
    ----------
    bundle
        The bundle: the folder that training wrote.
    to
        Format. onnx: one .onnx file, for ONNX Runtime and others. openvino: .xml and .bin, for CPUs. pt2: a
        torch.export program. It supports no two-stage detectors, and leaves the decoding of boxes to fishnet or to your
        own code.
    precision
        fp16: weights in 16 bits, half the size; computes in float32. int8: weights and arithmetic in 8 bits, calibrated
        on --data; refused if the metric drops by more than --max-drop. bf16, for openvino: a file that is computed in
        bf16 where the CPU has it, evaluated on --data and refused in the same way. pt2: fp32 only.
    out
        The file. Default: model.onnx (model.xml, model.pt2; model-int8.onnx ...) in the bundle's folder.
    images
        Images to compare on: files, folders or patterns. Eight of them are used; for detectors, some must show objects.
        Default: images of --data, else a photo that comes with matplotlib.
    data
        Labelled data, as for training. int8 is calibrated on its training split; int8 and bf16 are evaluated on its
        validation split.
    split
        Split to evaluate on. Default: val if there is one, else as in fishnet val.
    max_drop
        Largest drop of acc@1, AP, mask AP or mIoU that int8 or bf16 may cause, in percentage points.
    calibration
        Number of images to calibrate int8 on.
    quiet
        Print only errors.
    as_json
        Print one JSON object.
    """
    from fishnet.exporting.export import export as run

    def log(line: str) -> None:
        if not (quiet or as_json):
            print(line, file=sys.stderr)

    result = run(
        bundle, to=to, precision=precision, out=out, images=images or (), data=data, split=split, max_drop=max_drop,
        calibration=calibration, log=log,
    )  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    elif not quiet:
        print(f"saved {result.path} ({result.size / 1e6:.1f} MB)")
