"""Which labels are lists of labels, and which are names with a separator."""

import pytest

from fishnet.data.classification.several import refuse_indicators, refuse_several
from fishnet.errors import InputError


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", "cat|dog"],
        ["cat|dog", "dog|bird", "bird"],
        ["cat;dog", "dog;bird"],
        ["cat,dog", "cat", "dog"],
        ["cat, dog", "dog, bird", "bird, cat"],
        ["haze primary", "primary", "haze"],
        ["['cat', 'dog']", "['cat']"],
        ["[1, 2]", "[2]"],
        [" ".join(w for i, w in enumerate("abcdefgh") if n >> i & 1) for n in range(3, 256)],
    ],
)
def test_lists_of_labels(labels: list[str]) -> None:
    with pytest.raises(InputError, match="looks like several labels"):
        refuse_several(labels, "a.csv")


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane bird"],
        ["maillot", "maillot, tank suit"],
        ["red fox", "arctic fox", "red panda", "giant panda"],
        ["left arm", "right arm", "left leg", "right leg", "left eye", "right eye"],
        ["a/b", "b/c"],
        ["Tomato leaf", "Tomato leaf late blight", "Apple leaf"],
        ["x|y", "z"],
        ["1", "2", "10"],
    ],
)
def test_names(labels: list[str]) -> None:
    refuse_several(labels, "a.csv")


def test_columns_of_0_and_1() -> None:
    with pytest.raises(InputError, match=r"a\.csv: no label column, but one-hot columns .*cat, dog"):
        refuse_indicators(["image", "cat", "dog"], [["a", "1.0", "0.0"], ["b", "0", "1"]], "a.csv")
    refuse_indicators(["image", "cat", "width"], [["a", "1", "50"]], "a.csv")
    refuse_indicators(["image", "cat"], [], "a.csv")
