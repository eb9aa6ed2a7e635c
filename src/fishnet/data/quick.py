"""Findings that need no decoded images, or only a few, for ``data check`` and before training."""

from collections.abc import Iterator, Mapping
from typing import Any

from fishnet.data import plausibility as classification
from fishnet.data import plausibility_depth
from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.classification.multilabel import MultiLabelDataset
from fishnet.data.detection import plausibility as detection
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.findings import Finding, shared_code
from fishnet.data.panoptic import plausibility as panoptic
from fishnet.data.panoptic.base import PanopticSegmentation
from fishnet.data.segmentation import plausibility as segmentation
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.data.segmentation.files import FileSegmentation

_ORPHANS = 0.01  # with a larger share of files without a counterpart, the data is probably paired wrongly


def quick_findings(splits: Mapping[str, Any], repairs: bool = False) -> list[Finding]:
    """Findings from the data's names and annotations, and from the depth of some images.

    This takes seconds for 100,000 images. It takes longer for formats whose image headers (YOLO) or masks must be read.

    Args:
        splits: the splits of one dataset by name, all of one level.
        repairs: whether to include what training changes in the annotations of objects.

    Returns:
        Findings in no particular order, without duplicates.
    """
    first = next(iter(splits.values()), None)
    if isinstance(first, DetectionDataset):
        of_level = detection.plausibility(splits, repairs)
    elif isinstance(first, PanopticSegmentation):
        of_level = panoptic.plausibility(splits)
    else:
        of_level = (segmentation if isinstance(first, SegmentationDataset) else classification).plausibility(splits)
    findings = (
        *_orphans(splits),
        *_named_twice(splits),
        *classification.files_beside(splits),
        *classification.class_names(splits),
        *of_level,
        *plausibility_depth.plausibility(splits),
    )
    return list(dict.fromkeys(findings))


def training_findings(splits: Mapping[str, Any]) -> list[Finding]:
    """The quick findings, including what training changes in the annotations."""
    return quick_findings(splits, repairs=True)


def _orphans(splits: Mapping[str, Any]) -> Iterator[Finding]:
    """Images without mask and masks without image, which are left out. Detection formats report theirs when opened."""
    seen: set[str] = set()  # held-out images repeat the lines of train
    for split, dataset in splits.items():
        left_out = (
            [line for line in dataset.left_out if line not in seen] if isinstance(dataset, FileSegmentation) else []
        )
        seen.update(left_out)
        withheld = split == "test" and not len(dataset)  # a test split whose annotations are not published
        many = len(left_out) > _ORPHANS * (len(left_out) + len(dataset)) and not withheld
        for line in left_out:
            yield Finding("files-unpaired" if many else "file-unpaired", line, split, line.partition(": ")[0])


def _named_twice(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Files that are listed as more than one sample."""
    firsts: dict[str, tuple[str, int]] = {}
    for split, dataset in splits.items():
        for index in range(len(dataset)):
            source = dataset.source(index)
            before, first = firsts.setdefault(source, (split, index))
            if before != split:
                yield Finding(shared_code(before, split), f"{source}: in {before} and in {split}", split, source)
            elif first == index or isinstance(dataset, DetectionDataset | MultiLabelDataset):
                # repeated detection entries are found by the plausibility check; rows with several labels are joined
                # on opening
                continue
            elif isinstance(dataset, LabelledDataset) and dataset.labels[first] != dataset.labels[index]:
                names = [dataset.classes.names[int(dataset.labels[i])] for i in (first, index)]
                message = f"{source}: under the classes {names[0]} and {names[1]}"
                yield Finding("image-in-two-classes", message, split, source)
            else:
                yield Finding("image-listed-twice", f"{source}: is listed twice in {split}", split, source)
