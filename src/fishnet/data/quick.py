"""What can be found wrong with a whole data set by decoding no image, or only a few: for ``data check`` and before a
training."""

from collections.abc import Iterator, Mapping
from typing import Any

from fishnet.data import plausibility as labelled
from fishnet.data import plausibility_depth
from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.detection import plausibility as regions
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.findings import Finding
from fishnet.data.segmentation import plausibility as pixels
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.data.segmentation.files import FileSegmentation

TRAINED = ("train", "all")  # the splits that are trained on
_ORPHANS = 0.01  # share of files without their other half from which data is taken to be paired wrongly


def quick_findings(splits: Mapping[str, Any], repairs: bool = False) -> list[Finding]:
    """What the data's names and annotations tell, and the depth of some images.

    Args:
        sets: the splits of one data set by name, all of one level.
        repairs: with what a training changes of the annotations of objects.

    Returns:
        Findings in no particular order, each once. Takes seconds for 100,000 images; longer where their headers are
        read, as for YOLO, or masks.
    """
    some = next(iter(splits.values()), None)
    if isinstance(some, DetectionDataset):
        of_level = regions.plausibility(splits, repairs)
    else:
        of_level = (pixels if isinstance(some, SegmentationDataset) else labelled).plausibility(splits)
    findings = (
        *_orphans(splits),
        *_named_twice(splits),
        *labelled.files_beside(splits),
        *labelled.class_names(splits),
        *of_level,
        *plausibility_depth.plausibility(splits),
    )
    return list(dict.fromkeys(findings))


def training_findings(splits: Mapping[str, Any]) -> list[Finding]:
    """The same, and what a training changes of the annotations, counted."""
    return quick_findings(splits, repairs=True)


def _orphans(splits: Mapping[str, Any]) -> Iterator[Finding]:
    """Images without mask and masks without image, which are left out; objects' formats say theirs when opened."""
    seen: set[str] = set()  # what was held out for validation has the same as the rest
    for split, samples in splits.items():
        left_out = (
            [line for line in samples.left_out if line not in seen] if isinstance(samples, FileSegmentation) else []
        )
        seen.update(left_out)
        kept_back = split == "test" and not len(samples)  # a test split whose annotations nobody has
        many = len(left_out) > _ORPHANS * (len(left_out) + len(samples)) and not kept_back
        for line in left_out:
            yield Finding("files-unpaired" if many else "file-unpaired", line, split, line.partition(": ")[0])


def shared_code(one: str, other: str) -> str:
    """The code of a finding of an image in two splits: an error where one of them is trained on."""
    return "image-in-two-splits" if {one, other} & set(TRAINED) else "image-in-val-and-test"


def _named_twice(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Files that stand for more than one sample."""
    firsts: dict[str, tuple[str, int]] = {}
    for split, samples in splits.items():
        for index in range(len(samples)):
            source = samples.source(index)
            before, first = firsts.setdefault(source, (split, index))
            if before != split:
                yield Finding(shared_code(before, split), f"{source}: in {before} and in {split}", split, source)
            elif first == index or isinstance(
                samples, DetectionDataset
            ):  # plausibility says it of entries with objects
                continue
            elif isinstance(samples, LabelledDataset) and samples.labels[first] != samples.labels[index]:
                names = [samples.classes.names[int(samples.labels[i])] for i in (first, index)]
                line = f"{source}: under the classes {names[0]} and {names[1]}"
                yield Finding("image-in-two-classes", line, split, source)
            else:
                yield Finding("image-listed-twice", f"{source}: is listed twice in {split}", split, source)
