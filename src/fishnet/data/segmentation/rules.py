"""The rules for semantic segmentation data. Torch-free."""

from fishnet.data.rule import Rule

RULES = (
    Rule(
        "mask-255-unclear",
        "error",
        "Masks hold 255, which may be a class or stand for pixels to ignore.",
        "Set `--ignore 255` or `--ignore none`, or name all ids in a classes file.",
    ),
    Rule(
        "mask-anti-aliased",
        "error",
        "Masks hold many numbers that occur only on edges, as smoothing and lossy files produce them.",
        "Save masks without smoothing, or read masks of two classes with `--threshold-masks 128`.",
    ),
    Rule(
        "mask-levels-unnamed",
        "error",
        "Masks hold evenly spread grey levels, but the classes file numbers its classes differently.",
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
        "A mask and its image have different sizes.",
        "Give both the same size, or remove them.",
        "Stops at the first such image, or skips and counts them with `--on-error skip`.",
    ),
    Rule(
        "mask-id-unnamed",
        "error",
        "Masks hold an id or a colour that belongs to no class.",
        "Add it to the classes file, or ignore it with `--ignore ID`.",
        "Stops before the first step, or skips and counts such images with `--on-error skip`.",
        skippable=True,
    ),
    Rule(
        "mask-reading",
        "note",
        "The meaning of the masks was inferred from the numbers in them.",
        "If it is wrong, state it with `--ignore` or in a classes file.",
    ),
    Rule(
        "mask-mostly-ignored",
        "warning",
        "More than half of the pixels of a split are ignored.",
        "Compare the ignored ids and classes (`--ignore`, `--void`, the format's own) with the ids of the masks.",
    ),
    Rule(
        "mask-all-ignored",
        "warning",
        "Every pixel of a mask is ignored, so nothing is learned from its image.",
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
        "The classes file names a class, but no mask that is trained on has a pixel of it.",
        "Compare the ids of the masks with those of the file; remove the class, or leave it out with `--void NAME`.",
        "Logs it once, and trains without the class.",
        tolerated=True,
    ),
    Rule(
        "class-absent",
        "note",
        "No mask has a pixel of one of the format's classes.",
        "Leave the class out with `--void NAME` if it is not needed.",
    ),
    Rule(
        "class-dominates",
        "warning",
        "More than 99.9 % of the labelled pixels belong to one class.",
        "Compare the ids of the masks with the classes; if they are right, set `--class-weights`.",
    ),
    Rule(
        "class-without-val-pixels",
        "warning",
        "The val split has no pixel of a class that is trained on.",
        "Move images with this class to the val split.",
    ),
)
