"""Checks in a sample of each split whether images of more than 8 bits keep their values. Torch-free."""

from collections.abc import Mapping
from typing import Any

from fishnet.data.findings import Finding
from fishnet.images.value_range import measure, stand_in_message


def plausibility(splits: Mapping[str, Any]) -> list[Finding]:
    """Findings about the depth of a dataset's images. Decodes some images of each split.

    Args:
        splits: datasets (:class:`~fishnet.data.base.ImageDataset`) by split, with the reading that training would use.
    """
    findings: list[Finding] = []
    for split, dataset in splits.items():
        measured = measure(dataset)
        if measured.stand_in is not None:
            message = f"{measured.stand_in_file}: {stand_in_message(measured)}"
            findings.append(Finding("image-no-data", message, split, measured.stand_in_file))
        if dataset.channels not in (1, 3):  # other numbers of channels keep all bits
            continue
        if measured.near_black and dataset.reading.sixteen_bit == "shift":
            findings.append(
                Finding(
                    "image-near-black",
                    f"{split}: images of more than 8 bits hold {measured.low:g} to {measured.high:g}; their upper 8 of "
                    f"16 bits are at most {int(measured.top)} of 255, nearly black: use --sixteen-bit stretch",
                    split,
                    count=measured.deep,
                )
            )
        if measured.deep and measured.plain and dataset.reading.sixteen_bit != "shift":
            total = measured.deep + measured.plain
            findings.append(
                Finding(
                    "image-mixed-depth",
                    f"{split}: {measured.plain} of {total} sampled images have 8 bits and stay as they are, the others "
                    "are stretched",
                    split,
                    count=measured.plain,
                )
            )
    return findings
