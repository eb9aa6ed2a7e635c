"""Inspects models: cost and isolated convolutions of each stage, gradients, and what an image activates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fishnet.analysis.inspection.activations import Activations, activations
from fishnet.analysis.inspection.drawing import draw_gradients
from fishnet.analysis.inspection.gradients import Flow, gradient_flow
from fishnet.analysis.inspection.isolated import Isolation, find_isolated
from fishnet.analysis.inspection.stages import SCORE, Stage, count_stages
from fishnet.analysis.inspection.subject import Subject, open_subject
from fishnet.errors import InputError, first_line
from fishnet.files.writing import atomic_path

GRADIENTS = "gradients.png"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        size: side of the input, px; None for 224, or a bundle's own.
        data: labelled data for the gradients; None for none.
        batches, batch_size: of the gradients.
        image: an image whose activations are drawn; None for none.
        out: folder of the images.
        pretrained: whether networks by name have their pretrained weights.

    Raises:
        InputError: a number is out of range.
    """

    size: int | None = None
    data: str | None = None
    batches: int = 4
    batch_size: int = 16
    image: Path | None = None
    out: Path = field(default_factory=lambda: Path("inspect"))
    pretrained: bool = False

    def __post_init__(self) -> None:
        for name, minimum in (("batches", 1), ("batch_size", 2)):
            if getattr(self, name) < minimum:
                raise InputError(f"{name}={getattr(self, name)}: must be {minimum} or more")
        if self.image is not None and not self.image.is_file():
            raise InputError(f"{self.image}: no such file")


@dataclass(frozen=True)
class Inspection:
    """What was found in one model.

    Attributes:
        subject: the model.
        stages: cost of each stage, the last of which are the score layers.
        isolated: the isolated convolutions of each stage.
        flow: its gradients; None without data.
        activations: what the image activates; None without one.
    """

    subject: Subject
    stages: list[Stage]
    isolated: list[Isolation]
    flow: Flow | None = None
    activations: Activations | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        isolation = {row.stage: row for row in self.isolated}
        stages = []
        for stage in self.stages:
            row: dict[str, Any] = {
                "stage": stage.name, "shape": list(stage.shape), "parameters": stage.parameters, "macs": stage.macs,
                "activation_bytes": stage.activation_bytes,
            }  # fmt: skip
            if (found := isolation.get(stage.name)) is not None:
                row |= {"isolated": list(found.isolated), "min_convolutions_to_score": found.min_convolutions_to_score}
            if self.flow is not None and stage.name in self.flow.stages:
                row["gradient"] = self.flow.stages[stage.name]
            stages.append(row)
        facts: dict[str, Any] = {
            "model": self.subject.model, "trained": self.subject.is_trained, "size": list(self.subject.size),
            "parameters": sum(stage.parameters for stage in self.stages),
            "macs": sum(stage.macs for stage in self.stages),
            "activation_bytes": sum(stage.activation_bytes for stage in self.stages),
            "isolated": len({name for row in self.isolated if self.is_trunk(row.stage) for name in row.isolated}),
            "stages": stages,
        }  # fmt: skip
        if self.flow is not None:
            facts |= {"loss": self.flow.loss, "images": self.flow.images, "weight_gradients": self.flow.weights}
        if self.activations is not None:
            facts["strongest_channels"] = {
                name: [{"channel": number, "rms": value} for number, value in rows]
                for name, rows in self.activations.channels.items()
            }
            if self.activations.predicted is not None:
                label, score = self.activations.predicted
                facts["predicted"] = {"class": label, "score": score}
        return facts

    def is_trunk(self, stage: str) -> bool:
        """Whether a stage lies between the first one, which has no shortcuts, and the score layers."""
        return stage not in (SCORE, self.stages[0].name)

    def lines(self) -> list[str]:
        """A table for the terminal."""
        isolation = {row.stage: row for row in self.isolated}
        has_flow = self.flow is not None
        rows = [
            ["stage", "output", "parameters", "MMACs", "activations, MB", "isolated", "to score"]
            + ["gradient"] * has_flow
        ]
        for stage in self.stages:
            found = isolation.get(stage.name)
            to_score = (
                "" if found is None or found.min_convolutions_to_score is None else str(found.min_convolutions_to_score)
            )
            row = [
                stage.name, " x ".join(map(str, stage.shape)), f"{stage.parameters:,}", f"{stage.macs / 1e6:,.2f}",
                f"{stage.activation_bytes / 1e6:.2f}", "" if found is None else str(len(found.isolated)), to_score,
            ]  # fmt: skip
            if self.flow is not None:
                row.append(f"{self.flow.stages[stage.name]:.3g}" if stage.name in self.flow.stages else "")
            rows.append(row)
        facts = self.to_dict()
        total = [
            "total", "", f"{facts['parameters']:,}", f"{facts['macs'] / 1e6:,.2f}",
            f"{facts['activation_bytes'] / 1e6:.2f}", str(facts["isolated"]), "",
        ]  # fmt: skip
        rows.append(total + [""] * has_flow)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        height, width = self.subject.size
        state = "trained" if self.subject.is_trained else "as initialised"
        lines = [f"{self.subject.model} ({state}), {width} x {height} px"]
        for row in rows:
            cells = [
                cell.ljust(size) if i < 2 else cell.rjust(size)
                for i, (cell, size) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        if self.flow is not None:
            lines.append(f"loss {self.flow.loss:.4g} on {self.flow.images} images")
        if self.activations is not None and self.activations.predicted is not None:
            label, score = self.activations.predicted
            lines.append(f"predicted: {label}, {100 * score:.1f} %")
        return lines


def inspect(
    models: Sequence[str], options: Options, log: Log = lambda line: None
) -> tuple[list[Inspection], list[Path]]:
    """Inspects models, and draws images if data or an image are given.

    Args:
        models: names of networks, or bundles.
        options: what is measured.
        log: is called with lines about the data.

    Returns:
        What was found in each model, and the images that were written.

    Raises:
        InputError: no models, an unknown model, bad data, or an image that cannot be read.
        WorkError: an image cannot be written.
    """
    if not all(models) or not models:
        raise InputError("give the name of a network or a bundle")
    subjects = [open_subject(model, options.size, pretrained=options.pretrained) for model in dict.fromkeys(models)]
    if options.data is not None or options.image is not None:
        _make_folder(options.out)  # before the work, so that it is an early error
    found = [_inspect(subject, options, log) for subject in subjects]
    files = []
    flows = {one.subject.model: one.flow for one in found if one.flow is not None}
    if flows:
        files.append(draw_gradients(flows, options.out / GRADIENTS))
    for number, one in enumerate(found, 1):
        if one.activations is not None:
            path = options.out / f"activations{'' if len(found) == 1 else f'-{number}'}.png"
            with atomic_path(path) as partial:
                one.activations.sheet.save(partial, format="png")
            files.append(path)
    return found, files


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out={path}: cannot be made a folder ({error.strerror}): choose another") from error


def _inspect(subject: Subject, options: Options, log: Log) -> Inspection:
    try:
        stages = count_stages(subject.build(), subject.shape)
        isolated = find_isolated(subject.build(), subject.shape)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        reason = first_line(error) or type(error).__name__
        height, width = subject.size
        raise InputError(
            f"{subject.model}: cannot be inspected at {width} x {height} px ({reason}): give another --size or network"
        ) from error
    shown = None if options.image is None else activations(subject, options.image)
    flow = None
    if options.data is not None:
        flow = gradient_flow(
            subject, options.data, batches=options.batches, batch_size=options.batch_size, size=options.size, log=log
        )
    return Inspection(subject, stages, isolated, flow, shown)
