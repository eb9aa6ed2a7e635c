"""The rules for classification data. Torch-free."""

from fishnet.data.rule import Rule

RULES = (
    Rule(
        "image-in-two-classes",
        "error",
        "One image is under two classes.",
        "Remove it from the class that it does not belong to.",
        "Stops if one file is under both; pixels are not compared.",
    ),
    Rule(
        "class-alike",
        "warning",
        "Class names differ only in case or spaces.",
        "Give them one name if they are one class.",
    ),
    Rule("class-small", "warning", "A class has very few images to train on.", "Add images, or leave the class out."),
    Rule(
        "class-imbalance",
        "note",
        "The largest class has many times the images of the smallest.",
        "Consider --class-weights balanced.",
    ),
    Rule(
        "class-without-val-images", "note", "A class has no image to validate with.", "Add images of this class to val."
    ),
    Rule(
        "class-left-out",
        "note",
        "Classes that --classes does not name are left out.",
        "Do nothing if that is intended.",
    ),
    Rule(
        "image-all-negative",
        "note",
        "Images have none of the labels, in data with several labels per image.",
        "Do nothing if none of the classes is in them: they are negatives.",
        "Logs it once.",
    ),
    Rule(
        "label-unknown",
        "note",
        "For some images and labels, it is unknown whether the image has the label.",
        "Fill in 0 or 1 where it is known.",
        "Logs it once; loss and metrics ignore that class in these images.",
    ),
    Rule(
        "label-separator",
        "note",
        "Cells of a table hold several labels, which were recognised by a separator.",
        "Do nothing if the classes are right.",
        "Logs it once.",
    ),
    Rule(
        "label-rows-joined",
        "note",
        "An image is in several rows of a table with several labels per image; their labels are joined.",
        "Do nothing if each row has some of the image's labels.",
        "Logs it once.",
    ),
    Rule(
        "image-same-name",
        "note",
        "Most images of a split have the names of images in train.",
        "Make sure that they are different images; data check compares their pixels.",
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
    Rule("file-skipped", "note", "Files beside the images were not read.", "Do nothing if they are not images."),
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
        "name-by-tail",
        "note",
        "Image paths in the table do not exist as written; the files were matched by the end of their paths.",
        "Do nothing if the right files were found.",
    ),
    Rule("column-unread", "note", "Columns that may hold labels or splits are not used.", "Rename the right column."),
    Rule(
        "column-fold",
        "warning",
        "A column of folds is not used.",
        "Use --fold N to validate with one fold, or remove the column.",
    ),
)
