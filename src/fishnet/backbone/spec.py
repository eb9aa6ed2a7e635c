"""The numbers that define one FishNet, and the table of its stages.

The stages and their outputs, by index (S = stride of the output, widths of the published nets):

    0 stem    64 S4  | 1-3 tail 128 S8, 256 S16, 512 S32  | 4 bridge 512 S32
    5-7 body 768 S16, 512 S8, 320 S4                      | 8-10 head 832 S8, 1600 S16, 2112 S32
"""

from dataclasses import dataclass

Three = tuple[int, int, int]

STAGES = ("stem", "tail.0", "tail.1", "tail.2", "bridge", "body.0", "body.1", "body.2", "head.0", "head.1", "head.2")
STRIDES = (4, 8, 16, 32, 32, 16, 8, 4, 8, 16, 32)
# The earlier stage whose output each stage of body and head concatenates to its own.
BRANCH = {5: 2, 6: 1, 7: 0, 8: 6, 9: 5, 10: 4}
LAST = {"body": 7, "head": 10}
EDGE = "stem.2"  # the stem's map at stride 2, before its pooling


@dataclass(frozen=True)
class Spec:
    """All numbers that define one network. Widths that follow from other widths are properties, never fields.

    Attributes:
        tail: widths of the tail's three stages (strides 4, 8, 16 before their pooling).
        body: widths to which the body's stages refine, before concatenation. Each must divide its stage's input width.
        tail_depths, bridge_depth, body_depths, head_depths: refining units in each stage's trunk.
        body_transfers, head_transfers: refining units in each stage's transfer branch.
        stem: width at stride 4; the stem's first two convolutions have half of it.
        reduction: a unit's inner width is its output width / reduction, within the two bounds below.
        min_inner, max_inner: bounds of the inner width, which also never exceeds the output width.
        group_widths: channels per group of the 3x3 convolutions at strides 4, 8, 16, 32; None for plain convolutions.
            Inner widths are rounded down to a multiple of it.
        dilations: dilations of the body's 3x3 convolutions, from stride 32 to stride 8.
        zero_init: initialise each unit's last convolution to zero, so that every unit starts as its shortcut.

    Raises:
        ValueError: a body width does not divide its stage's input width.
    """

    tail: Three = (128, 256, 512)
    body: Three = (512, 384, 256)
    tail_depths: Three = (2, 2, 6)
    bridge_depth: int = 2
    body_depths: Three = (1, 1, 1)
    body_transfers: Three = (1, 1, 1)
    head_depths: Three = (1, 2, 2)
    head_transfers: Three = (1, 1, 4)
    stem: int = 64
    reduction: int = 4
    min_inner: int = 1
    max_inner: int | None = None
    group_widths: tuple[int, int, int, int] | None = None
    dilations: Three = (1, 2, 4)
    zero_init: bool = False

    def __post_init__(self) -> None:
        for i, (width, out) in enumerate(zip(self.body_inputs, self.body, strict=True)):
            if width % out:
                raise ValueError(f"body[{i}]={out} must divide the stage's {width} input channels")

    @property
    def body_inputs(self) -> Three:
        """Input widths of the body's stages."""
        return self.tail[2], self.body[0] + self.tail[1], self.body[1] + self.tail[0]

    @property
    def channels(self) -> tuple[int, ...]:
        """Output width of every stage, in the order of ``STAGES``."""
        widths = [self.stem, *self.tail, self.tail[2]]
        for stage in (5, 6, 7):
            widths.append(self.body[stage - 5] + widths[BRANCH[stage]])
        for stage in (8, 9, 10):
            widths.append(widths[stage - 1] + widths[BRANCH[stage]])
        return tuple(widths)

    def inner(self, width: int, stride: int) -> tuple[int, int]:
        """Inner width and number of groups of a refining unit with ``width`` output channels at ``stride``."""
        inner = min(width, max(width // self.reduction, self.min_inner), self.max_inner or width)
        if self.group_widths is None:
            return inner, 1
        per_group = min(self.group_widths[(4, 8, 16, 32).index(stride)], inner)
        return inner // per_group * per_group, inner // per_group
