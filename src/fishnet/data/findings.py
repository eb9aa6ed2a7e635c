"""What can be wrong with a dataset: named rules, and the findings of a check. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Rule:
    """One kind of fault.

    Attributes:
        code: ``<subject>-<what>``, such as ``image-unreadable``.
        severity: an error is wrong, a warning probably is, a note is worth knowing.
        meaning: what it says of the data, one sentence.
        action: what to do about it, one sentence.
    """

    code: str
    severity: Severity
    meaning: str
    action: str


@dataclass(frozen=True)
class Finding:
    """One place where a rule applies.

    Attributes:
        code: of the rule.
        message: what and where, one line.
        split: train, val, test or all; empty where it concerns the whole dataset.
        file: the file concerned; empty where there is none.
        line: in that file, from 1.
        count: how many images, objects or pixels it concerns.
    """

    code: str
    message: str
    split: str = ""
    file: str = ""
    line: int | None = None
    count: int = 1

    @property
    def severity(self) -> Severity:
        """Of the rule."""
        return RULES[self.code].severity

    @property
    def action(self) -> str:
        """Of the rule."""
        return RULES[self.code].action

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "split": self.split,
            "file": self.file,
            "line": self.line,
            "count": self.count,
            "action": self.action,
        }


_ALL = (
    # every level
    Rule(
        "annotation-unreadable",
        "error",
        "An annotation cannot be used as it stands.",
        "Correct or remove the annotation.",
    ),
    Rule("image-unreadable", "error", "An image file is missing or broken.", "Replace the file or remove its entry."),
    # classification
    # detection and instance segmentation
    # semantic segmentation
    Rule(
        "mask-255-unclear",
        "error",
        "255 may be a class of the masks or stand for pixels to be ignored.",
        "Say `--ignore 255` or `--ignore none`, or name all ids in a classes file.",
    ),
    Rule(
        "mask-anti-aliased",
        "error",
        "Masks hold many numbers that lie on edges alone, as smoothing and lossy files leave them.",
        "Save masks without smoothing, or read masks of two classes with `--threshold-masks 128`.",
    ),
    Rule(
        "mask-levels-unnamed",
        "error",
        "Masks hold evenly spread grey levels, and the classes file numbers its classes otherwise.",
        "Write the level before each name in the classes file.",
    ),
    Rule(
        "mask-id-unnamed",
        "error",
        "Masks hold an id or a colour that no class has.",
        "Add it to the classes file, or ignore it with `--ignore ID`.",
    ),
    Rule(
        "mask-reading",
        "note",
        "What the masks hold was concluded from the numbers in them.",
        "Say it with `--ignore`, or in a classes file, if the conclusion is wrong.",
    ),
    Rule(
        "mask-mostly-ignored",
        "warning",
        "More than half of the pixels of a split are ignored.",
        "Compare what is ignored (`--ignore`, `--void`, the format's own) with the ids of the masks.",
    ),
    Rule(
        "mask-all-ignored",
        "warning",
        "Every pixel of a mask is ignored, so that nothing is learnt from its image.",
        "Annotate the mask, or remove it with its image.",
    ),
    Rule(
        "mask-exif-unclear",
        "warning",
        "The EXIF orientation turns an image whose mask fits both ways; masks are taken to lie on the upright image.",
        "Look at masks with `fishnet data check --sheet`; remove wrong orientations with `exiftool -Orientation=`.",
    ),
    Rule(
        "class-without-pixels",
        "error",
        "The classes file names a class of which no mask that is trained on has a pixel.",
        "Compare the ids of the masks with those of the file; remove the class, or leave it out with `--void NAME`.",
    ),
    Rule(
        "class-absent",
        "note",
        "No mask has a pixel of a class that the format knows.",
        "Leave the class out with `--void NAME` if it is not wanted.",
    ),
    Rule(
        "class-dominates",
        "warning",
        "More than 99.9 % of the pixels that count are of one class.",
        "Compare the ids of the masks with the classes; if they are right, set `--class-weights`.",
    ),
    Rule(
        "class-not-validated",
        "warning",
        "The val split has no pixel of a class that is trained on.",
        "Move images with this class to the val split.",
    ),
)
RULES: dict[str, Rule] = {rule.code: rule for rule in _ALL}
