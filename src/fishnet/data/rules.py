"""The rules that a dataset may break, by code. Torch-free."""

from dataclasses import dataclass
from typing import Literal

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
        training: what a training does about it, one sentence; by default it stops for an error that it finds before
            its first step, and says a warning.
        goes_on: whether a training does not stop for an error of this kind, because it copes with it.
        skippable: whether `--on-error skip` copes with it, by leaving out the images concerned.
    """

    code: str
    severity: Severity
    meaning: str
    action: str
    training: str = ""
    goes_on: bool = False
    skippable: bool = False


_ORPHANS = "Stops where it is more than 1 % of the files of a split, else says how many."
_ALL = (
    # every level
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
        "One image is in two splits, so that validation measures what was trained on.",
        "Remove it from one of the two.",
        "Stops where one file is in both; pixels are not compared.",
    ),
    Rule(
        "image-in-val-and-test",
        "warning",
        "One image is in val and in test, so that test measures what the best epoch was chosen by.",
        "Remove it from one of the two, or do not take test for an independent measure.",
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
        "One file stands for two samples of a split.",
        "Remove one of the two entries.",
    ),
    Rule(
        "file-unpaired",
        "warning",
        "An image has no annotation, or an annotation no image; it is left out.",
        "Add the missing half, or remove the file.",
    ),
    Rule(
        "files-unpaired",
        "error",
        "More than 1 % of the files have no other half, so that images and annotations are probably paired wrongly.",
        "Compare the names of images and annotations; remove what belongs to nothing.",
    ),
    Rule(
        "class-untrained",
        "error",
        "A class is in another split but not in the one that is trained on.",
        "Add images of it to train, or leave the class out.",
        "Not looked for.",
    ),
    # the depth of images
    Rule(
        "image-near-black",
        "warning",
        "Images of more than 8 bits hold so small values that their upper 8 bits are nearly black.",
        "Train with --sixteen-bit stretch.",
    ),
    Rule(
        "image-no-data",
        "error",
        "A value such as -9999 stands in many pixels, and no tag of the file declares it as no-data.",
        "Declare it (gdal_edit.py -a_nodata VALUE FILE), or replace it.",
    ),
    Rule(
        "image-mixed-depth",
        "warning",
        "Some images have 8 bits and others more, which are stretched.",
        "Save all images alike, or check that their brightness agrees (fishnet data show).",
    ),
    # classification
    Rule(
        "image-in-two-classes",
        "error",
        "One image is under two classes.",
        "Remove it from the class that it does not belong to.",
        "Stops where one file is under both; pixels are not compared.",
    ),
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
        "Move them into class folders, or elsewhere.",
    ),
    Rule(
        "image-without-split",
        "warning",
        "Images lie beside the folders of the splits and are in none of them.",
        "Move them into train, val or test, or elsewhere.",
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
    Rule(
        "box-repeated",
        "warning",
        "An image has the same box twice in one class.",
        "Remove one of the two, unless two objects are meant.",
    ),
    Rule(
        "mask-box-differs",
        "warning",
        "The box of an object does not fit its segmentation.",
        "Compare the units and the order of the numbers of both.",
    ),
    Rule(
        "shape-ignored",
        "warning",
        "Points, lines and other shapes without area are no objects and are left out.",
        "Draw boxes or outlines where these shapes mean objects.",
    ),
    Rule(
        "image-size-differs",
        "error",
        "An image is of another size than its annotation states, so that its boxes would lie elsewhere.",
        "Correct the annotation, or use the image that was annotated.",
        "Stops at the first such image, or skips and counts them with `--on-error skip`.",
    ),
    Rule(
        "box-empty",
        "error",
        "A bounding box has no width or no height.",
        "Draw the box again, or remove it.",
        "Drops the box, and says how many in `box-dropped`.",
    ),
    Rule(
        "box-outside",
        "error",
        "A bounding box lies outside of its image.",
        "Correct or remove the box; where there are many, look for wrong units or a wrong image.",
        "Drops the box, and says how many in `box-dropped`.",
    ),
    Rule(
        "box-beyond-edge",
        "error",
        "A bounding box reaches out of its image by more than 1 px.",
        "Correct the box; where there are many, look for wrong units or a wrong image.",
        "Clips the box, and says how many in `box-clipped`.",
    ),
    Rule(
        "image-without-objects",
        "note",
        "An image has no objects, and is trained on as a negative.",
        "Remove it if its objects were never annotated.",
    ),
    Rule(
        "label-without-image",
        "error",
        "Annotation files pair with no image, so that their objects are lost.",
        "Name the annotation files like their images, or remove them.",
        _ORPHANS,
        goes_on=True,
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
        _ORPHANS,
        goes_on=True,
    ),
    Rule(
        "image-missing",
        "error",
        "Annotated images are not there.",
        "Add the image files, or remove their entries.",
        _ORPHANS,
        goes_on=True,
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
        "note",
        "Objects are marked difficult: neither trained on nor counted, as in Pascal VOC's own evaluation.",
        "Use --difficult use to train on and count them.",
    ),
    Rule(
        "object-crowded",
        "warning",
        "Images have more objects of a class than are found and counted.",
        "Raise --max-detections in training and --max-detections in validation.",
    ),
    Rule(
        "box-normalized",
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
        "Says it once.",
        goes_on=True,
    ),
    # semantic segmentation
    Rule(
        "mask-255-unclear",
        "error",
        "Masks hold 255, which may be a class or stand for pixels to be ignored.",
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
        "mask-unreadable",
        "error",
        "A mask is missing or broken.",
        "Replace or remove the mask.",
        "Stops at the first such mask, or skips and counts them with `--on-error skip`.",
    ),
    Rule(
        "mask-size-differs",
        "error",
        "A mask is of another size than its image.",
        "Give both one size, or remove them.",
        "Stops at the first such image, or skips and counts them with `--on-error skip`.",
    ),
    Rule(
        "mask-id-unnamed",
        "error",
        "Masks hold an id or a colour that no class has.",
        "Add it to the classes file, or ignore it with `--ignore ID`.",
        "Stops before the first step, or skips and counts such images with `--on-error skip`.",
        skippable=True,
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
        "Says it once, and trains without it.",
        goes_on=True,
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
