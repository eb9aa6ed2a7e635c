"""Model files that nobody vouches for: refused in one line, and no code of theirs runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fishnet
from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.runtime.exported import Exported
from fishnet.runtime.pt2 import read_pt2
from tests.conftest import Run
from tests.hostile.case import Case
from tests.hostile.models import CASES, CLASSIFIER, CONFIG, MARK, SEGMENTER, described, pt2

KINDS = ("weights", "inputs", "expression")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_one_line_and_no_code(case: Case, tmp_path: Path, run: Run) -> None:
    code, out, err = run(*case.write(tmp_path))
    assert code == case.code, err
    lines = err.splitlines()
    assert len(lines) == (case.code > 0), "one line"
    for word in case.words:
        assert word in err
    assert not (tmp_path / MARK).exists(), "code of the file ran"
    for line in out.splitlines():
        if line.startswith("{"):
            json.loads(line, parse_constant=pytest.fail)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_hostile_programs_do_run_code_where_they_are_trusted(kind: str, tmp_path: Path) -> None:
    """Otherwise their refusal would show nothing; a release of torch that refuses them may end this."""
    path = pt2(tmp_path, kind)
    with pytest.raises(InputError, match="--trust"):
        fishnet.load(path)
    read_pt2(path)  # what fishnet info says
    assert not (tmp_path / MARK).exists()
    try:
        torch.export.load(str(path))
    except Exception:
        assert (tmp_path / MARK).exists()
    assert (tmp_path / MARK).exists()


def test_a_program_that_is_trusted_predicts(tmp_path: Path, run: Run) -> None:
    path = pt2(tmp_path, "none")
    code, _, err = run("predict", path, CLASSIFIER / CONFIG)
    assert (code, "refused" in err, "--trust" in err) == (2, True, True)
    fishnet.load(path, trust=True)
    code, out, _ = run("info", path)
    assert code == 0
    assert "only with --trust" in out


# --- any values whatever ----------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 1e-320, 2**63, True]))
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(max_size=20), st.sampled_from(["hf-hub:a/b", "../x", "\x1b[2J"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["schema", "task", "backbone", "classes", "preprocess", "head", "backbone_args", "head_args", "thresholds",
     "metrics", "recipe", "data", "versions", "sha256", "more"]
)  # fmt: skip
INNER = st.sampled_from(
    [
        "size",
        "crop_pct",
        "interpolation",
        "mean",
        "std",
        "fit",
        "sixteen_bit",
        "width",
        "anchors",
        "nms",
        "norm",
        "more",
    ]
)
SOUND = [json.loads((folder / CONFIG).read_text(encoding="utf-8")) for folder in (CLASSIFIER, SEGMENTER)]


def refusal(read: Callable[[], object]) -> str:
    """What an InputError says; nothing where there is none. Any other exception fails the test."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SOUND), st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(INNER, VALUES, max_size=3))
@example(SOUND[0], {"classes": [{"id": float("inf"), "name": "a"}]}, {})
@example(SOUND[0], {"classes": [{"id": 10**400, "name": None}]}, {})
@example(SOUND[0], {"thresholds": {"\n": None}}, {})
@example(SOUND[0], {"schema": True}, {})
@example(SOUND[0], {"schema": 10**400}, {})
@example(SOUND[0], {}, {"mean": [10**400] * 3})
@example(SOUND[0], {}, {"mean": 5})
@example(SOUND[0], {}, {"size": {"a": 1}})
@example(SOUND[0], {}, {"interpolation": []})
@example(SOUND[0], {}, {"fit": {}})
@example(SOUND[0], {}, {"crop_pct": 5e-324})
@example(SOUND[1], {}, {"anchors": {"sizes": None, "ratios": 3}})
@example(SOUND[1], {}, {"anchors": [[1.0]]})
@example(SOUND[1], {"metrics": {"mIoU": float("nan")}}, {})
def test_a_config_of_anything_is_a_bundle_or_one_line(
    sound: dict[str, object], changes: dict[str, object], inner: dict[str, object]
) -> None:
    values = {**sound, **changes}
    for key in ("preprocess", "head_args"):
        before = values.get(key)
        if isinstance(before, dict):
            values[key] = {**before, **inner} if key not in changes else inner
    assert "\n" not in refusal(lambda: Bundle.from_dict(values))
    text = json.dumps({**json.loads(described()), "bundle": values})
    assert "\n" not in refusal(lambda: Exported.from_text(text))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(list(json.loads(described()))), VALUES, max_size=3))
@example({"outputs": None})
@example({"outputs": [[1]]})
@example({"size": [1]})
@example({"size": "ab"})
@example({"dynamic_batch": 1})
@example({"schema": 1, "many": 1})
@example({"many": True})
@example({"metrics": {"fp32": 3}})
@example({"schema": 10**400})
def test_an_export_says_anything(changes: dict[str, object]) -> None:
    text = json.dumps({**json.loads(described()), **changes})
    assert "\n" not in refusal(lambda: Exported.from_text(text))


@pytest.mark.parametrize("text", ["", "null", "3", '"text"', "[]", "{}", "[" * 100_000, "9" * 5000, '{"schema": NaN}'])
def test_an_export_says_no_object(text: str) -> None:
    with pytest.raises(InputError):
        Exported.from_text(text)


def test_a_config_nested_without_end() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for key in ("recipe", "head_args", "classes", "schema", "task", "metrics"):
        with pytest.raises(InputError):
            Bundle.from_dict({**SOUND[0], key: deep})
