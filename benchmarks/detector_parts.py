"""What a two-stage detector of a recipe multiplies: MACs of trunk, FPN and heads. Nothing is computed, only counted.

    python benchmarks/detector_parts.py                              # Mask R-CNN of coco-1x at 800 x 1333 px
    python benchmarks/detector_parts.py --recipe coco-modern --size 1024 1024

A training step's forward pass has the recipe's ``samples`` in the box head and at most a quarter of them in the mask
head; in use these are ``proposals`` and ``detections``. Sides are padded to multiples of 32, as images are.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import padded
from fishnet.recipes.loading import load_recipe
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.model import Model, ModelSpec

CLASSES = 80  # COCO's


def macs(run: Callable[[], object]) -> float:
    """Multiply-accumulates of what a function does, in 10^9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2e9


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="meta")


def row(backbone: str, recipe: Recipe, height: int, width: int) -> str:
    """One line of the table."""
    head = DetectorSpec(
        width=recipe.fpn_channels, box_width=recipe.box_width, box_convs=recipe.box_convs,
        mask_width=recipe.mask_width, norm=recipe.head_norm,
    )  # fmt: skip
    classes = Classes.of(f"class {i}" for i in range(CLASSES))
    model = Model.build(ModelSpec.single("instances", backbone, classes, head_args=head.to_dict())).to("meta").eval()
    _, detector = model.only_head
    image, heads = zeros(1, recipe.channels, padded(height), padded(width)), detector.roi_heads

    def upto_proposals() -> None:
        maps = detector.pyramid(model.features(image))
        detector.rpn.head(list(maps.values()))

    trunk, first = macs(lambda: model.features(image)), macs(upto_proposals)
    box = macs(lambda: heads.box_predictor(heads.box_head(zeros(100, head.width, 7, 7)))) / 100
    mask = macs(lambda: heads.mask_predictor(heads.mask_head(zeros(100, head.width, 14, 14)))) / 100
    training = first + recipe.roi_samples * box + recipe.roi_samples // 4 * mask
    use = first + recipe.proposals * box + recipe.max_detections * mask
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    cells = [f"{parameters:.2f}", *(f"{value:.1f}" for value in (trunk, first - trunk, training, use))]
    return f"| {backbone} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="coco-1x")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--backbones", nargs="+", default=["fishnet99", "fishnet150", "resnet50"])
    args = parser.parse_args()
    recipe = load_recipe("instances", args.recipe)
    print("| trunk | parameters, M | trunk, GMACs | FPN and proposals | training, forward | in use |")
    print("|---|---:|---:|---:|---:|---:|")
    for backbone in args.backbones:
        print(row(backbone, recipe, *args.size), flush=True)
    print(f"\nmask-rcnn of {args.recipe}, {CLASSES} classes, one image of {args.size[0]} x {args.size[1]} px")


if __name__ == "__main__":
    main()
