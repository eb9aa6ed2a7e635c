"""The rules for panoptic data. Torch-free."""

from fishnet.data.rule import Rule

RULES = (
    Rule(
        "panoptic-id-unknown",
        "error",
        "A panoptic mask holds ids that no segment has.",
        "Add the segments to the annotation, or set their pixels to 0 (void).",
    ),
    Rule(
        "panoptic-segment-empty",
        "error",
        "A segment of the annotation has no pixel in its panoptic mask.",
        "Remove the segment, or draw it.",
    ),
    Rule(
        "panoptic-object-hidden",
        "note",
        "An object is covered by smaller ones or lies outside of its image, so it has no panoptic segment.",
        "Remove the object if it is a duplicate; it is still trained on as an instance.",
    ),
    Rule(
        "panoptic-id-taken",
        "note",
        "A class of the label maps has an id that a class of objects has too; outputs show another id for it.",
        "Give the classes different ids if outputs must show the original ones.",
    ),
)
