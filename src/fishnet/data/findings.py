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
    Rule(
        "class-alike",
        "warning",
        "Names of classes differ in case or spaces alone.",
        "Rename them alike where they are one class.",
    ),
    Rule("class-small", "warning", "A class has very few images to train on.", "Add images, or leave the class out."),
    Rule(
        "class-imbalance",
        "note",
        "The largest class has many times the images of the smallest.",
        "Consider --class-weights balanced.",
    ),
    Rule("class-unvalidated", "note", "A class has no image to validate with.", "Add some to val."),
    Rule("class-left-out", "note", "Classes that --classes does not name are left out.", "Nothing, if that is meant."),
    Rule(
        "image-same-name",
        "note",
        "Most images of a split have the names of images in train.",
        "Make sure that they are others; data check compares their pixels.",
    ),
    Rule(
        "image-without-class",
        "warning",
        "Images lie beside the class folders and belong to no class.",
        "Move them into a class folder, or elsewhere.",
    ),
    Rule("file-skipped", "note", "Files beside the images were not read.", "Nothing, if they are no images."),
    Rule(
        "file-skipped-share",
        "warning",
        "More than 1 % of the files beside the images were not read.",
        "Convert them to PNG or JPEG if they are images, or remove them.",
    ),
    Rule(
        "link-not-followed",
        "warning",
        "A linked folder leads outside of the dataset and was not followed.",
        "Copy the folder, or link its files one by one (cp -rs).",
    ),
    Rule(
        "name-by-tail", "note", "File names were written on another machine.", "Nothing, if the right files were found."
    ),
    Rule("column-unread", "note", "Columns that look like labels or splits are not used.", "Rename the right column."),
    Rule(
        "column-fold",
        "warning",
        "A column of folds is not used.",
        "Say --fold N to validate with one fold, or remove the column.",
    ),
    # detection and instance segmentation
    # semantic segmentation
)
RULES: dict[str, Rule] = {rule.code: rule for rule in _ALL}
