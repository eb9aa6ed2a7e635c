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
    Rule(
        "label-without-image",
        "error",
        "Annotation files pair with no image, so that their objects are lost.",
        "Name the annotation files like their images, or remove them.",
    ),
    Rule(
        "image-without-label",
        "warning",
        "Images pair with no annotation file and are learnt from as images without objects.",
        "Add the annotation files, or keep the images if they hold no objects.",
    ),
    Rule(
        "image-left-out",
        "error",
        "Images pair with no annotation file and are left out.",
        "Add the annotation files, or move the images elsewhere.",
    ),
    Rule(
        "image-missing",
        "error",
        "Annotated images are not there.",
        "Add the image files, or remove their entries.",
    ),
    Rule(
        "image-found-by-tail",
        "warning",
        "Images lie elsewhere than the annotation says and were found by the end of their path.",
        "Correct the paths in the annotation if the wrong images are meant.",
    ),
    Rule(
        "image-not-annotated",
        "warning",
        "Images lie beside annotated ones and no annotation file names them.",
        "Annotate the images, or ignore this if they are left out on purpose.",
    ),
    Rule(
        "label-paired-by-tail",
        "warning",
        "Label files and images differ by a hash before their common name and were paired.",
        "Rename the label files if the wrong images are meant.",
    ),
    Rule(
        "label-values-dropped",
        "warning",
        "Lines hold more than a box: a score, a track's number or keypoints, which are dropped.",
        "Check that these files are annotations and not predictions.",
    ),
    Rule(
        "label-four-corners",
        "warning",
        "Every line has four corners: upright boxes around them are learnt, not rotated ones.",
        "Expect upright boxes.",
    ),
    Rule(
        "label-ambiguous",
        "error",
        "Lines may be outlines as well as boxes with something behind.",
        "State kpt_shape in the YAML file, or remove what follows the boxes.",
    ),
    Rule(
        "split-unnamed",
        "warning",
        "An annotation file or list beside others says no split and is left out.",
        "Rename the file to its split, or remove it.",
    ),
    Rule(
        "category-unused-root",
        "note",
        "A category that only groups the others and has no objects is left out of the classes.",
        "Nothing.",
    ),
    Rule(
        "category-id-text",
        "note",
        "Category ids are texts; numbers stand for them in what a model gives.",
        "Nothing, or number the categories.",
    ),
    Rule(
        "object-difficult",
        "warning",
        "Objects are marked difficult: neither trained on nor counted, as in Pascal VOC's own evaluation.",
        "Use --difficult use to train on and count them.",
    ),
    Rule(
        "object-crowded",
        "warning",
        "Images have more objects of a class than are found and counted.",
        "Raise --detections in training and --most in validation.",
    ),
    Rule(
        "box-normalised",
        "error",
        "All boxes lie within 0..1, like shares of the image's sides.",
        "Write the boxes in px of the image.",
    ),
    Rule(
        "box-xyxy",
        "error",
        "Boxes fit their images as x1, y1, x2, y2 and not as x, y, width, height.",
        "Write the boxes as x, y, width, height.",
    ),
    Rule(
        "box-tiny",
        "warning",
        "All boxes are smaller than 3 px.",
        "Check the unit and the scale of the boxes.",
    ),
    Rule(
        "box-clipped",
        "warning",
        "Boxes reach over the edges of their images and are cut off there.",
        "Run fishnet data check, which names them.",
    ),
    Rule(
        "box-dropped",
        "warning",
        "Boxes are empty or outside of their images and are dropped.",
        "Run fishnet data check, which names them.",
    ),
    Rule(
        "object-all-crowd",
        "error",
        "All objects are crowds, which are not trained on.",
        "Set iscrowd to 0 for single objects.",
    ),
    Rule(
        "image-mostly-empty",
        "warning",
        "Most images have no objects.",
        "Check that the annotations are complete.",
    ),
    Rule(
        "image-repeated",
        "error",
        "An image has two entries, so that each is wrong about the other's objects.",
        "Merge the entries of the image.",
    ),
    # semantic segmentation
)
RULES: dict[str, Rule] = {rule.code: rule for rule in _ALL}
