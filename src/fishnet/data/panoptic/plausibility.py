"""Findings from the segments of a panoptic dataset before training: ids and segments that do not match."""

from collections.abc import Iterator, Mapping

import numpy as np

from fishnet.data.findings import Finding
from fishnet.data.panoptic.base import PanopticSegmentation
from fishnet.data.panoptic.counts import count_segments, image_findings
from fishnet.errors import InputError

SAMPLE = 500
"""Maximum number of masks read per split, spread evenly over it."""
MOSTLY = 0.5  # share of void pixels; a larger share is reported


def plausibility(splits: Mapping[str, PanopticSegmentation]) -> list[Finding]:
    """Findings from the masks of all splits, or a sample of them, one for each kind and split. Decodes no image.

    Args:
        splits: the splits of one dataset by name.
    """
    findings: list[Finding] = []
    for split, dataset in splits.items():
        findings += _of_split(split, dataset)
    return findings


def _of_split(split: str, dataset: PanopticSegmentation) -> Iterator[Finding]:
    """The findings about one split."""
    indices = range(len(dataset))
    chosen = indices if len(indices) <= SAMPLE else np.linspace(0, len(indices) - 1, SAMPLE).astype(int).tolist()
    sampled = "" if len(chosen) == len(indices) else f" (in {len(chosen):,} of {len(indices):,} masks)"
    void = pixels = 0
    merged: dict[str, list[Finding]] = {}
    for index in chosen:
        try:
            counted = count_segments(dataset, index)
        except InputError:  # reported when the image is read
            continue
        void, pixels = void + counted.void, pixels + counted.size[0] * counted.size[1]
        for finding in image_findings(split, dataset, index, counted):
            merged.setdefault(finding.code, []).append(finding)
    for code, findings in merged.items():
        total = sum(finding.count for finding in findings)
        message = findings[0].message
        if len(findings) > 1 or sampled:
            message = f"{split}: {total:,} in {len(findings):,} images{sampled}, first {message}"
        yield Finding(code, message, split, findings[0].file, count=total)
    if void > MOSTLY * pixels:
        message = f"{split}: {100 * void / pixels:.1f} % of the pixels are void{sampled}"
        yield Finding("mask-mostly-ignored", message, split)
