"""What can be found wrong with a whole data set without decoding an image: for ``data check`` and before a training."""

from collections.abc import Mapping
from typing import Any

from fishnet.data.base import LabelledSet, PictureSet
from fishnet.data.files import FileSet
from fishnet.data.findings import Finding
from fishnet.data.pixels.base import PixelSet
from fishnet.data.regions.base import RegionSet

_ORPHANS = 0.01  # share of files without their other half from which data is taken to be paired wrongly


def quick_findings(sets: Mapping[str, Any]) -> list[Finding]:
    """What the data's names and annotations tell.

    Args:
        sets: the splits of one data set by name, all of one level.

    Returns:
        Findings in no particular order. Takes seconds for 100,000 images.
    """
    some = next(iter(sets.values()), None)
    if isinstance(some, RegionSet):
        from fishnet.data.regions.plausibility import plausibility
    elif isinstance(some, PixelSet):
        from fishnet.data.pixels.plausibility import plausibility
    else:
        from fishnet.data.plausibility import plausibility
    return [*_orphans(sets), *_named_twice(sets), *plausibility(sets)]


def _orphans(sets: Mapping[str, Any]) -> list[Finding]:
    """Images without annotation and annotations without image that a format has left out."""
    findings = []
    seen: set[str] = set()  # what was held out for validation has the same as the rest
    for split, samples in sets.items():
        left_out = [line for line in samples.left_out if line not in seen] if isinstance(samples, FileSet) else []
        if not left_out:
            continue
        seen.update(left_out)
        share = len(left_out) / (len(left_out) + len(samples))
        kept_back = split == "test" and not len(samples)  # a test split whose annotations nobody has
        code = "files-unpaired" if share > _ORPHANS and not kept_back else "file-unpaired"
        findings += [Finding(code, line, split, _file_of(line)) for line in left_out]
    return findings


def _file_of(line: str) -> str:
    return line.partition(": ")[0]


def _named_twice(sets: Mapping[str, PictureSet]) -> list[Finding]:
    """Files that stand for more than one sample."""
    firsts: dict[str, tuple[str, int]] = {}
    findings = []
    for split, samples in sets.items():
        for index in range(len(samples)):
            source = samples.source(index)
            before, first = firsts.setdefault(source, (split, index))
            if (before, first) == (split, index):
                continue
            if before != split:
                findings.append(Finding("image-in-two-splits", f"{source}: in {before} and in {split}", split, source))
            elif isinstance(samples, LabelledSet) and samples.labels[first] != samples.labels[index]:
                names = [samples.classes.names[int(samples.labels[i])] for i in (first, index)]
                line = f"{source}: under the classes {names[0]} and {names[1]}"
                findings.append(Finding("image-in-two-classes", line, split, source))
            else:
                findings.append(Finding("image-listed-twice", f"{source}: is listed twice in {split}", split, source))
    return findings
