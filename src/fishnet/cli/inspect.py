"""``fishnet inspect NAME|BUNDLE...``."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def inspect(
    *model: str,
    size: int | None = None,
    data: str | None = None,
    batches: int = 4,
    batch_size: int = 16,
    image: Path | None = None,
    out: Path = Path("inspect"),
    pretrained: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Look inside networks: cost of each stage, isolated convolutions, gradients, and what an image activates.

    For each stage the table has parameters, multiply-accumulates (MACs), the activations that training keeps for one
    image, the isolated convolutions (the fewest on any path through the stage, which no shortcut bypasses), and the
    fewest convolutions on a path from its output to the score layers: with 0, the loss's gradient reaches the stage
    directly. The total of isolated convolutions excludes the first stage and the score layers.

    Parameters
    ----------
    model
        Names of networks (FishNets or other timm networks), or bundles.
    size
        Side of the input, px. Default: 224, or a bundle's own.
    data
        Labelled data, as for training: measures the gradients of the loss at each stage's output and of each weight,
        and draws those of all models in gradients.png. Networks by name are classifiers as training begins with them.
    batches
        Number of batches for the gradients.
    batch_size
        Batch size for the gradients.
    image
        An image: draws the strongest channels of each stage and, for classifiers, Grad-CAM of the predicted class in
        activations.png.
    out
        Folder for these images.
    pretrained
        Give networks by name their pretrained weights: those in this package, or published ones (a download).
    as_json
        Print one JSON object.
    """
    from fishnet.analysis.inspection.inspect import Options
    from fishnet.analysis.inspection.inspect import inspect as run

    options = Options(size, data, batches, batch_size, image, out, pretrained)
    found, files = run(model, options, (lambda line: None) if as_json else print)
    if as_json:
        models = [one.to_dict() for one in found]
        print(json.dumps({"models": models, "files": [str(file) for file in files]}, allow_nan=False))
        return
    print("\n\n".join("\n".join(one.lines()) for one in found))
    if files:
        print(f"\nsaved in {out}: {', '.join(file.name for file in files)}")
