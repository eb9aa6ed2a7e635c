"""Decides what the numbers in masks mean where no format defines it: which are classes, and whether 255 is one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.evidence import anti_aliased_numbers, is_grey_scale, why_255_may_be_a_class
from fishnet.data.segmentation.masks import BINARY
from fishnet.data.segmentation.names import Legend
from fishnet.data.segmentation.survey import MaskReader, Survey, survey
from fishnet.errors import InputError

CLASSES_FILE = "classes.txt"
DEFAULT_THRESHOLD = 128


@dataclass(frozen=True)
class Choices:
    """What the user, or the training of a model, has decided about masks.

    Attributes:
        ignore: ids that are neither learned nor measured.
        decided: whether only ``ignore`` and the format's own ids are ignored. If so, nothing is concluded about 255.
        void: names of classes that are neither learned nor measured.
        only: names of the classes that are learned; all others are ignored. Empty: all are learned.
        threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
    """

    ignore: tuple[int, ...] = ()
    decided: bool = False
    void: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    threshold: int = 0

    @classmethod
    def of(
        cls, ignore: Sequence[int | str] = (), void: Sequence[str] = (), only: Sequence[str] = (), threshold: int = 0
    ) -> "Choices":
        """From the values of ``ignore``, ``void``, ``classes`` and ``threshold_masks`` that the user gives."""
        ids = tuple(id_ for id_ in ignore if isinstance(id_, int))
        return cls(ids, len(ids) < len(ignore), tuple(void), tuple(only), threshold)


class Masks(NamedTuple):
    """The masks of a dataset, and what is known about them before any is read.

    Attributes:
        splits: the mask files of each split that has any, train first.
        legend: the legend of the format or of a classes file; None if neither names the classes.
        folder: the dataset's folder, for messages.
    """

    splits: Sequence[Sequence[Path]]
    legend: Legend | None
    folder: Path


class Decision(NamedTuple):
    """What the numbers in masks mean.

    Attributes:
        legend: the classes, and the numbers and colours that are ignored.
        reader: opens masks, and has the facts of those that were read.
        notes: what was concluded, one line each, for the user.
    """

    legend: Legend
    reader: MaskReader
    notes: tuple[str, ...]


def decide(masks: Masks, choices: Choices, model_classes: Classes | None) -> Decision:
    """Decides what the numbers in masks mean. Before training, all masks of the train split are read.

    - 255 is ignored if the format or the user says so. It is also ignored if it borders at least two other ids, and
      the ids are not evenly spread grey levels.
    - Masks with only 0 and 255 are background and foreground, or the two classes that a file numbers 0 and 1.
    - Evenly spread grey levels, such as 0, 85, 170 and 255, are classes if no file names any.
    - Any other 255 is reported: the user must decide what it means.

    Args:
        masks: the dataset's masks.
        choices: what is already decided.
        model_classes: the classes of a model, whose training has decided; None before a training.

    Raises:
        InputError: masks with two possible meanings; anti-aliased masks; no mask that can be read.
    """
    decider = _Decider(masks, choices, model_classes)
    if choices.threshold:
        decider.legend = _two_classes(masks, model_classes)
    elif model_classes is not None:
        decider.repeat_training(model_classes)
    elif masks.legend is None:
        decider.name_numbers()
    elif masks.legend.from_file:
        decider.check_named_numbers()
    return Decision(decider.legend, decider.reader, tuple(decider.notes))


class _Decider:
    """The state of :func:`decide`. Its methods set the legend, the reader and the notes."""

    def __init__(self, masks: Masks, choices: Choices, model_classes: Classes | None) -> None:
        self.masks, self.choices = masks, choices
        self.legend = masks.legend or _legend_by_id(masks, model_classes, choices)
        colours = bool(self.legend.colours) and not choices.threshold
        self.reader = MaskReader(colours, colours and not self.legend.has_ids, choices.threshold)
        self.notes: list[str] = []

    def repeat_training(self, model_classes: Classes) -> None:
        """Treats 255 as the model's training did, except that masks with only 0 and 255 may show its two classes."""
        legend = self.legend
        if IGNORE in (*legend.values, *legend.ignored):
            return
        if self._classes_are_0_and_1():
            numbers = self._numbers_if_binary()
            if numbers == set(BINARY) or (model_classes.ids == BINARY and numbers <= set(BINARY)):
                if IGNORE in self.choices.ignore:
                    first, second = legend.classes.names
                    raise InputError(
                        f"{self.masks.folder}: masks hold only 0 and 255, and the model's training ignored 255: only "
                        f"{first!r} would be measured: set ignore to none if 255 is {second!r} here"
                    )
                self._take_255_as_second()
                return
        if not self.choices.decided:  # old bundles ignore 255 whatever the masks hold
            self.legend = replace(legend, ignored=(*legend.ignored, IGNORE))

    def name_numbers(self) -> None:
        """Takes the numbers in the masks of the train split as classes, and as their names."""
        total = survey(self._train_masks(), self.reader)
        numbers = {number for number in total.numbers if number >= 0 and number not in self.choices.ignore}
        if self._is_binary(numbers):
            self.legend = Legend(
                self.legend.location, Classes(("background", "foreground"), BINARY), BINARY, from_file=False
            )
            self._note_binary()
            return
        if self._resolve_anti_aliasing(total, numbers):
            return
        ignored: tuple[int, ...] = ()
        if IGNORE in numbers and not self.choices.decided:
            if is_grey_scale(numbers):
                self.notes.append(f"masks hold the grey levels {_listed(numbers)}: each is a class")
            else:
                self._explain_ignored_255(total)
                ignored = (IGNORE,)
        ids = tuple(sorted(numbers - set(ignored)))
        self.legend = Legend(
            self.legend.location, Classes(tuple(map(str, ids)), ids), ids, ignored=ignored, from_file=False
        )

    def check_named_numbers(self) -> None:
        """Decides about the numbers that a classes file does not name, 255 above all."""
        legend = self.legend
        total = survey(self._train_masks(), self.reader, strict=is_strict())
        named = {*legend.values, *legend.ignored, *self.choices.ignore}
        numbers = {number for number in total.numbers if number >= 0}
        if self._resolve_anti_aliasing(total, numbers - named - {IGNORE}) or IGNORE in named:
            return
        if self._classes_are_0_and_1() and self._is_binary(total.numbers):
            self._take_255_as_second()
        elif len(numbers) == len(legend.classes) and not numbers <= named and is_grey_scale(numbers):
            self._report_grey_levels(numbers)
        elif IGNORE in numbers and not self.choices.decided:
            self._explain_ignored_255(total)
            self.legend = replace(legend, ignored=(*legend.ignored, IGNORE))

    def _train_masks(self) -> Sequence[Path]:
        return self.masks.splits[0] if self.masks.splits else ()

    def _classes_are_0_and_1(self) -> bool:
        return self.legend.values == (0, 1) and not self.legend.colours

    def _is_binary(self, numbers: set[int]) -> bool:
        """Whether masks hold only 0 and 255. If those of the train split hold one number only, all splits are read."""
        return (self._numbers_if_binary() if len(numbers) == 1 else numbers) == set(BINARY)

    def _numbers_if_binary(self) -> set[int]:
        """The numbers of the train split, or of all splits if it has only one. Stops early unless 0 and 255."""
        numbers = survey(self._train_masks(), self.reader, BINARY).numbers
        if len(numbers) == 1:
            numbers = survey(list(chain(*self.masks.splits)), self.reader, BINARY).numbers
        return numbers

    def _take_255_as_second(self) -> None:
        self.legend = _second_is_255(self.legend)
        self._note_binary()

    def _note_binary(self) -> None:
        first, second = self.legend.classes.names
        self.notes.append(f"masks hold only 0 and 255: 0 is {first!r}, 255 is {second!r}")

    def _report_grey_levels(self, levels: set[int]) -> None:
        """Reports that the classes file does not say which grey level is which class."""
        legend = self.legend
        rows = [f"{level},{name}" for level, name in zip(sorted(levels), legend.classes.names, strict=True)]
        report(
            f"{legend.location}: masks hold the grey levels {_listed(levels)} for its {len(levels)} classes: write one "
            f"line for each class, as in: {'; '.join(['id,name', *rows])}",
            "mask-levels-unnamed", file=legend.location,
        )  # fmt: skip

    def _explain_ignored_255(self, total: Survey) -> None:
        """Notes that 255 is ignored; reports it instead if it may be a class."""
        reason = why_255_may_be_a_class(total)
        if not reason:
            self.notes.append(f"255 is ignored: it has no name, and borders {len(total.beside_255):,} of the other ids")
            return
        file = self.masks.folder / CLASSES_FILE
        naming = "name it in the classes file" if self.masks.legend else f"name all ids in {file}"
        mask = total.first_mask[IGNORE]
        report(
            f"{mask}: 255 may be a class or stand for ignored pixels ({100 * total.share(IGNORE):.2f} % of all): "
            f"{reason}: set ignore to 255, or to none if it is a class, or {naming}",
            "mask-255-unclear", file=str(mask),
        )  # fmt: skip

    def _resolve_anti_aliasing(self, total: Survey, numbers: set[int]) -> bool:
        """Reports anti-aliased masks. If problems are collected, masks of two classes are then read with a threshold.

        Returns:
            Whether masks are now read with a threshold.
        """
        soft = anti_aliased_numbers(total, numbers)
        if not soft:
            return False
        mask = total.first_mask[soft[len(soft) // 2]]
        report(
            f"{mask}: looks like an anti-aliased mask: {len(soft)} numbers such as {_listed(soft[:3])} occur only on "
            f"edges ({100 * total.share(*soft):.2f} % of all pixels): save masks without smoothing, or read masks of "
            f"two classes with threshold_masks {DEFAULT_THRESHOLD}",
            "mask-anti-aliased", file=str(mask),
        )  # fmt: skip
        if self.masks.legend is not None and len(self.masks.legend.classes) != 2:
            return False
        self.legend = _two_classes(self.masks, None)
        self.reader = MaskReader(threshold=DEFAULT_THRESHOLD)
        return True


def _listed(numbers: Sequence[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _legend_by_id(masks: Masks, model_classes: Classes | None, choices: Choices) -> Legend:
    """The classes of a model by their ids; no classes before a training."""
    location = f"{masks.folder / CLASSES_FILE} (create it to name all classes)"
    classes = model_classes or Classes((), ())
    # A void class without a name is called by its id.
    return Legend(location, classes, classes.ids, ignored=tuple(int(name) for name in choices.void if name.isdecimal()))


def _two_classes(masks: Masks, model_classes: Classes | None) -> Legend:
    """The two classes of masks that are read with a threshold. Raises InputError if a file does not name two."""
    legend = masks.legend
    if legend is None:
        names = ("background", "foreground")
        if model_classes is not None and len(model_classes) == 2:
            names = (model_classes.names[0], model_classes.names[1])
        return Legend(str(masks.folder / CLASSES_FILE), Classes(names, BINARY), BINARY, from_file=False)
    if len(legend.classes) != 2:
        raise InputError(
            f"{legend.location}: names {len(legend.classes)} classes, but threshold_masks makes two: name only the "
            "background and the foreground"
        )
    return _second_is_255(legend)


def _second_is_255(legend: Legend) -> Legend:
    """Two classes that are 0 and 255 in masks. Outputs keep the ids of a legend that has ids."""
    classes = legend.classes if legend.has_ids else Classes(legend.classes.names, BINARY)
    return Legend(legend.location, classes, BINARY, has_ids=legend.has_ids, from_file=legend.from_file)
