"""Draws docs/fishnet.png: the stages of a FishNet, their channels and strides, and who concatenates what.

    python docs/fish_diagram.py [NETWORK] [FILE]

Everything in it is read from the network's Spec: NETWORK is one of ``fishnet.backbone.SPECS``, by default fishnet99.
"""

import sys

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fishnet.backbone import SPECS, STAGES, STRIDES
from fishnet.backbone.spec import BRANCH

COLOURS = {"stem": "#8d99ae", "tail": "#4895ef", "bridge": "#7b2cbf", "body": "#2a9d8f", "head": "#e76f51"}
HEAD = STAGES.index("head.0")
SPACING, HEIGHT = 1.7, 0.52  # of stages along the fish; of a box, in steps of resolution
LEVELS = {4: 3.0, 8: 2.0, 16: 1.0, 32: 0.0}  # height by stride


def main() -> None:
    """Draws one network."""
    name = sys.argv[1] if len(sys.argv) > 1 else "fishnet99"
    file = sys.argv[2] if len(sys.argv) > 2 else "docs/fishnet.png"
    spec = SPECS[name]
    places = [(SPACING * i, LEVELS[stride]) for i, stride in enumerate(STRIDES)]
    figure = Figure(figsize=(14, 5.2), layout="constrained")
    axis = figure.subplots()
    for i, (x, y) in enumerate(places):
        part = STAGES[i].partition(".")[0]
        axis.add_patch(
            FancyBboxPatch(
                (x - 0.55, y - HEIGHT / 2), 1.1, HEIGHT, boxstyle="round,pad=0.02,rounding_size=0.1",
                facecolor=COLOURS[part], edgecolor="none",
            )
        )  # fmt: skip
        axis.text(x, y + 0.1, STAGES[i], ha="center", va="center", color="white", fontsize=11, weight="bold")
        axis.text(x, y - 0.12, f"{spec.channels[i]:,} ch", ha="center", va="center", color="white", fontsize=9)
        if i:
            arrow(axis, places[i - 1], (x, y), "#222222", 0.0)
    for stage, source in BRANCH.items():
        arrow(
            axis, places[source], places[stage], COLOURS[STAGES[stage].partition(".")[0]], -0.2 if stage < HEAD else 0.2
        )
    for stride, y in LEVELS.items():
        axis.text(-1.25, y, f"stride {stride}", ha="right", va="center", fontsize=10, color="#555555")
        axis.axhline(y, color="#dddddd", linewidth=0.8, zorder=0)
    x, y = places[-1]
    axis.text(x + 0.65, y, "score:\nclass", ha="left", va="center", fontsize=10)
    pyramid = " · ".join(f"{STAGES[i]} (stride {STRIDES[i]})" for i in range(7, 11))
    axis.text(
        places[5][0], -1.35, f"maps for detection and segmentation: {pyramid}", ha="center", fontsize=10,
        color="#333333",
    )  # fmt: skip
    axis.set_title(f"{name}: black arrows refine and resample, coloured ones bring an earlier map to be concatenated")
    axis.set(xlim=(-2.3, places[-1][0] + 1.5), ylim=(-1.5, 4.9))
    axis.axis("off")
    figure.savefig(file, dpi=100)


def arrow(axis: object, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float) -> None:
    """Draws an arrow between two boxes."""
    (x1, y1), (x2, y2) = start, end
    side, edge = (0.58, 0.0) if not bend else (0.3, HEIGHT / 2 if bend < 0 else -HEIGHT / 2)
    axis.add_patch(  # type: ignore[attr-defined]
        FancyArrowPatch(
            (x1 + side, y1 + edge), (x2 - side, y2 + edge), arrowstyle="-|>", mutation_scale=12, color=colour,
            connectionstyle=f"arc3,rad={bend}", linewidth=1.4,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
