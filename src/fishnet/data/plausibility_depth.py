"""Whether images of more than 8 bits keep their values: a look at a sample of each part. Torch-free."""

from collections.abc import Mapping
from typing import Any

from fishnet.data.findings import Finding
from fishnet.images.value_range import measure, stand_in_message


def plausibility(splits: Mapping[str, Any]) -> list[Finding]:
    """Findings about the depth of a dataset's images; some images of each part are decoded.

    Args:
        sets: the parts (:class:`~fishnet.data.base.ImageDataset`) by name, with the reading that training would use.
    """
    findings: list[Finding] = []
    for split, images in splits.items():
        measured = measure(images)
        if measured.stand_in is not None:
            message = f"{measured.stand_in_file}: {stand_in_message(measured)}"
            findings.append(Finding("image-no-data", message, split, measured.stand_in_file))
        if images.channels not in (1, 3):  # these keep all of their bits
            continue
        if measured.near_black and images.reading.sixteen_bit == "shift":
            findings.append(
                Finding(
                    "image-near-black",
                    f"{split}: images of more than 8 bits hold {measured.low:g} to {measured.high:g}; their upper 8 of "
                    f"16 bits are at most {int(measured.top)} of 255, nearly black: use --sixteen-bit stretch",
                    split,
                    count=measured.deep,
                )
            )
        if measured.deep and measured.plain and images.reading.sixteen_bit != "shift":
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
