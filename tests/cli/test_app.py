"""The help of the command line."""

import pytest

from tests.conftest import Run


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [("val", "Writes metrics.json"), ("predict", "frames of a video"), ("export", "The file is kept only if it")],
)
def test_help_of_a_verb_is_its_docstring(run: Run, verb: str, sentence: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert sentence in " ".join(out.split())


def test_help_lists_every_verb_with_one_line(run: Run) -> None:
    _, out, _ = run("--help")
    assert "Train a model on your data" in out
    assert "Writes metrics.json" not in out
