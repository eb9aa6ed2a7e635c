"""The rules that a dataset may break, by code; each level adds its own. Torch-free."""

from fishnet.data.classification.rules import RULES as CLASSIFICATION
from fishnet.data.detection.rules import RULES as DETECTION
from fishnet.data.panoptic.rules import RULES as PANOPTIC
from fishnet.data.rule import Rule
from fishnet.data.segmentation.rules import RULES as SEGMENTATION

_ALL_LEVELS = (
    Rule(
        "annotation-unreadable",
        "error",
        "An annotation cannot be used as it stands.",
        "Correct or remove the annotation.",
        "Stops at the first one.",
    ),
    Rule(
        "image-unreadable",
        "error",
        "An image file is missing or broken.",
        "Replace the file or remove its entry.",
        "Stops at the first such image, or skips and counts them with `--on-error skip`.",
    ),
    Rule(
        "image-in-two-splits",
        "error",
        "One image is in two splits, so validation measures images that were trained on.",
        "Remove it from one of the two.",
        "Stops if one file is in both; pixels are not compared.",
    ),
    Rule(
        "image-in-val-and-test",
        "warning",
        "An image is in val and in test: the test metrics include images that were used to choose the best epoch.",
        "Remove it from one of the two, or do not treat test as independent.",
    ),
    Rule(
        "image-duplicate",
        "note",
        "Two files of one split have the same pixels.",
        "Remove one of them, unless the repetition is wanted.",
    ),
    Rule(
        "image-listed-twice",
        "warning",
        "One file is listed as two samples of a split.",
        "Remove one of the two entries.",
    ),
    Rule(
        "file-unpaired",
        "warning",
        "An image has no annotation, or an annotation no image; it is left out.",
        "Add the missing file, or remove this one.",
    ),
    Rule(
        "files-unpaired",
        "error",
        "More than 1 % of the files have no counterpart, so images and annotations are probably paired wrongly.",
        "Compare the names of images and annotations; remove files without a counterpart.",
    ),
    Rule(
        "class-untrained",
        "error",
        "A class is in another split, but not in the one that is trained on.",
        "Add images of it to train, or leave the class out.",
        "Not checked.",
    ),
)
_IMAGE_DEPTH = (
    Rule(
        "image-near-black",
        "warning",
        "The values of images of more than 8 bits are so small that their upper 8 bits are nearly black.",
        "Train with --sixteen-bit stretch.",
    ),
    Rule(
        "image-no-data",
        "error",
        "Many pixels have a value such as -9999, and no tag of the file declares it as no-data.",
        "Declare it (gdal_edit.py -a_nodata VALUE FILE), or replace it.",
    ),
    Rule(
        "image-mixed-depth",
        "warning",
        "Some images have 8 bits and others more, which are stretched.",
        "Save all images with the same depth, or check that their brightness agrees (fishnet data show).",
    ),
)
RULES: dict[str, Rule] = {
    rule.code: rule for rule in (*_ALL_LEVELS, *_IMAGE_DEPTH, *CLASSIFICATION, *DETECTION, *SEGMENTATION, *PANOPTIC)
}
