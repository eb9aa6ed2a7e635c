"""The differences between tasks are in one place, and a new task needs no change elsewhere."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import fishnet
from fishnet.cli import main
from fishnet.errors import InputError
from fishnet.evaluation.evaluate import evaluate
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task, task_info, task_names
from fishnet.tasks.base import Task
from fishnet.tasks.classification.task import Classify
from fishnet.tasks.info import _INFOS, TaskInfo, register, resolve
from fishnet.training.fit import fit
from tests.makers import CLASSES, image

SOURCE = Path(fishnet.__file__).parent


class Sort(Classify):
    """A toy: classification under another name."""

    name = "sort"


@pytest.fixture
def sort() -> Iterator[TaskInfo]:
    info = TaskInfo(
        name="sort", level="classification", output="scores", task="tests.tasks.test_info:Sort",
        result="fishnet.prediction.results.classification:Classification.from_logits", options=("k",),
        hub_tag="image-classification", any_size=False, benchmark_size=64, benchmark_classes=10,
    )  # fmt: skip
    yield register(info)
    del _INFOS["sort"]


@pytest.mark.parametrize("name", task_names())
def test_both_sides_of_a_task_agree(name: str) -> None:
    info, task = task_info(name), get_task(name)
    assert isinstance(task, Task)
    assert (task.name, task.any_size) == (info.name, info.any_size)
    assert callable(resolve(info.result))
    assert keys_of(name)


def test_unknown_tasks() -> None:
    with pytest.raises(InputError, match="unknown task 'segmnt': did you mean segment"):
        task_info("segmnt")
    with pytest.raises(ValueError, match="'detect' is registered already"):
        register(TaskInfo("detect", "detection", "objects", "a:b", "a:b", (), ""))


def test_the_data_of_a_new_task_is_checked(sort: TaskInfo, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(folder), "--task", "sort", "--json", "--quiet"]) in (0, 2)
    splits = json.loads(capsys.readouterr().out)["splits"]
    assert all(set(split["per_class"]) == set(CLASSES) for split in splits.values())


def test_a_new_task_trains_validates_and_predicts(sort: TaskInfo, folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(backbone="fishnet_nano", size=32, batch_size=8, workers=0, device="cpu", epochs=1)
    fitted = fit("sort", str(folder), recipe, tmp_path / "run", quiet=True)
    assert fitted.epoch == 1
    predictor = fishnet.load(tmp_path / "run", "cpu")
    assert (predictor.bundle.task, predictor.options) == ("sort", ("k",))
    assert evaluate(predictor, str(folder), workers=0).images > 0
    result = predictor.predict(image("red", 1), k=3)
    assert {row["name"] for row in result.rows()} == set(CLASSES)


def names_compared(tree: ast.AST) -> Iterator[int]:
    """Lines that compare with a task's name, or hold a table by tasks' names."""
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            values = [node.left, *node.comparators]
            values += [part for one in values if isinstance(one, ast.Tuple | ast.List | ast.Set) for part in one.elts]
        elif isinstance(node, ast.Dict) and len(node.keys) > 1:
            values = list(node.keys)
        elif isinstance(node, ast.MatchValue):
            values = [node.value]
        if any(isinstance(one, ast.Constant) and one.value in task_names() for one in values):
            yield node.lineno


def test_no_task_is_compared_by_name() -> None:
    assert list(names_compared(ast.parse('x == "segment"\ny = {"detect": 1, "classify": 2}\nz in ("a", "detect")')))
    places = [
        f"{file.relative_to(SOURCE)}:{line}"
        for file in sorted(SOURCE.rglob("*.py"))
        if file.relative_to(SOURCE).parts[0] != "tasks"
        for line in names_compared(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert places == []
