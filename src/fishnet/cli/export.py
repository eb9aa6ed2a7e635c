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
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    out: Path | None = None,
    images: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    data: str | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    max_drop: float = 1.0,
    calibration: int = 128,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Export a bundle to a file that runs without torch; the file is compared with the bundle before it is kept.

    Class names, preprocessing and thresholds travel in the file. The comparison runs both on real images, at three
    sizes: scores within 1e-4 of their range; each object that is found once by both, within 0.1 px and 1e-4 of its
    score, its mask within 0.5 % of its box. A file that differs by more is not kept, and the exit code is 1.

    Parameters
    ----------
    bundle
        The folder that training wrote.
    to
        onnx: one .onnx file, for onnxruntime and others. openvino: .xml with .bin, for Intel's and others' CPUs. pt2: a
        program of torch.export; detectors of one stage only, and for fishnet or code of your own that decodes boxes.
    precision
        fp16: weights in 16 bits, half the size; arithmetic stays as it is. int8: weights and arithmetic in 8 bits,
        fitted to images of --data; refused where the metric drops by more than --max-drop. Not for pt2.
    out
        The file. Default: model.onnx (model.xml, model.pt2; model-int8.onnx ...) in the bundle's folder.
    images
        Files, folders or patterns to compare on: eight of them, and for detectors some with objects. Default: those of
        --data, else one photo that matplotlib carries.
    data
        Labelled data, as for training: int8 is fitted to its training part, and measured on its validation part.
    split
        The part to measure int8 on. Default: val where there is one, else test.
    max_drop
        Percentage points of acc@1, AP, mask AP or mIoU that int8 may cost.
    calibration
        Images that int8 is fitted to.
    quiet
        Print nothing but errors.
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
