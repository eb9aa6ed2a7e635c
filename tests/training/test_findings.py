"""What a training says of its data before the first step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fishnet.data.findings import Finding
from fishnet.data.rule import Rule
from fishnet.data.rules import RULES
from fishnet.errors import InputError
from fishnet.training import findings
from fishnet.training.findings import report_findings
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.detection_makers import coco_folder
from tests.makers import image_folder

_RULES = {
    rule.code: rule
    for rule in (
        Rule("an-error", "error", "It is wrong.", "Mend it."),
        Rule("another-error", "error", "It is wrong too.", "Mend it too."),
        Rule("an-error-mended", "error", "It was wrong.", "Mend it.", "Mends it.", tolerated=True),
        Rule("a-warning", "warning", "It is odd.", "Look at it."),
        Rule("a-note", "note", "It is so.", "Nothing."),
    )
}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """Of the findings of some codes the lines that are told, and the error."""
    monkeypatch.setattr("fishnet.data.findings.RULES", _RULES)

    def call(*codes: str, **options: Any) -> tuple[list[str], str]:
        lines: list[str] = []
        found = [Finding(code, f"place {i}", count=i + 1) for i, code in enumerate(codes)]
        monkeypatch.setattr(findings, "training_findings", lambda splits: found)
        try:
            report_findings("detect", "my data", {}, lines.append, **options)
        except InputError as error:
            return lines, str(error)
        return lines, ""

    return call


def test_each_code_is_one_line(report: Callable[..., tuple[list[str], str]]) -> None:
    lines, error = report("a-warning", "a-note", "an-error-mended", "a-warning")
    assert lines == [
        "error an-error-mended (3): It was wrong. place 2. Mend it.",
        "warning a-warning (5): It is odd. First: place 0. Look at it.",
    ]
    assert error == ""


def test_an_error_stops(report: Callable[..., tuple[list[str], str]]) -> None:
    lines, error = report("a-warning", "another-error", "an-error")
    assert error == (
        "my data: error an-error (3): It is wrong. place 2. Mend it. (and 1 more such error) See fishnet data check "
        "'my data' --task detect; to train anyway: skip_findings=an-error,another-error"
    )
    assert [line.split(" (")[0] for line in lines] == ["error another-error", "warning a-warning"]


def test_what_is_skipped_is_neither_told_nor_stops(report: Callable[..., tuple[list[str], str]]) -> None:
    lines, error = report("a-warning", "another-error", "an-error", skip=("an-error", "a-warning"))
    assert (lines, error.split(" (")[0]) == ([], "my data: error another-error")
    assert report("another-error", "a-warning", skip=_RULES) == ([], "")


def test_nothing_stops_a_training_that_goes_on(report: Callable[..., tuple[list[str], str]]) -> None:
    lines, error = report("an-error", stop=False)
    assert (lines, error) == (["error an-error (1): It is wrong. place 0. Mend it."], "")


def test_repairs_are_counted_in_one_line(tmp_path: Path, run: Run) -> None:
    data = coco_folder(tmp_path / "data", train=6, val=3)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for annotation, box in zip(content["annotations"], ([5, 5, 0, 9], [500, 5, 9, 9], [-9, 5, 20, 9]), strict=False):
        annotation["bbox"] = box
    path.write_text(json.dumps(content))
    code, out, err = run("train", "detect", data, "--dry-run", *fast("--batch-size", 2))
    assert (code, err) == (0, "")
    for rule, words in (("box-dropped", "2 of 15 boxes of train"), ("box-clipped", "1 of 15 boxes of train")):
        lines = [line for line in out.splitlines() if rule in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"# warning {rule} (")
        assert words in lines[0]
        assert RULES[rule].action in lines[0]


def test_a_file_in_two_splits(tmp_path: Path, run: Run) -> None:
    image_folder(tmp_path / "data", 4)
    rows = [
        f"data/{name}/{i}.{'jpg' if i == 2 else 'png'},{name},{'val' if i == 3 else 'train'}"
        for name in ("red", "green", "blue")
        for i in range(4)
    ]
    table = tmp_path / "all.csv"
    table.write_text("\n".join(["path,label,split", *rows, "data/red/0.png,red,val"]))
    out = tmp_path / "run"
    says(
        run("train", "classify", table, "--out", out, *fast()),
        2, "image-in-two-splits", "red/0.png: in train and in val", "skip_findings=image-in-two-splits",
    )  # fmt: skip
    assert not out.exists()
    code, _, err = run("train", "classify", table, "--out", out, "--skip-findings", "image-in-two-splits", *fast())
    assert (code, err) == (0, "")
    assert (out / "config.json").is_file()
    code, _, err = run("train", "classify", table, "--resume", out, "--epochs", 2, "--quiet")
    assert (code, err) == (0, ""), "a training that has begun goes on"
