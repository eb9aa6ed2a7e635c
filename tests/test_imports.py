"""What importing loads, and which room may import which."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import fishnet

HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "matplotlib", "av")
LIGHT = (
    "fishnet", "fishnet.errors", "fishnet.files.documents", "fishnet.data", "fishnet.data.findings",
    "fishnet.images.decoding", "fishnet.images.opening", "fishnet.images.preprocess", "fishnet.images.remote",
    "fishnet.images.video", "fishnet.bundle.bundle", "fishnet.bundle.classes", "fishnet.bundle.hub",
    "fishnet.prediction.predictor", "fishnet.prediction.drawing", "fishnet.prediction.results",
    "fishnet.runtime.exported", "fishnet.runtime.decode", "fishnet.runtime.engines", "fishnet.recipes.recipe",
    "fishnet.tasks", "fishnet.tasks.loading", "fishnet.training", "fishnet.cli", "fishnet.cli.train",
    "fishnet.cli.data", "fishnet.cli.predict", "fishnet.cli.writers", "fishnet.cli.panoptic_files",
    "fishnet.prediction.panoptic", "fishnet.tasks.panoptic.metrics", "fishnet.bulk.batches",
    "fishnet.serve.app", "fishnet.serve.server",
)  # fmt: skip
SOURCE = Path(fishnet.__file__).parent

# Arrows of docs/architecture.md. `prediction` imports no torch: `tasks` draws its reports by it and brings its engine.
# What tasks are without torch, `tasks.info`, is a leaf. `analysis.benchmark` measures what `exporting` writes, and
# `analysis.inspection` sets up a training: both lie above the rest of analysis.
LEAVES = {"errors", "info", "files", "images", "weights", "bundle", "recipes"}
ALLOWED = {
    "errors": set(),
    "info": {"errors"},
    "files": {"errors"},
    "images": {"errors", "files"},
    "weights": set(),
    "bundle": {"errors", "info", "files", "images", "weights"},
    "recipes": {"errors", "info", "files", "images", "weights", "bundle"},
    "backbone": {"errors", "files", "weights"},
    "data": {"errors", "files", "images", "bundle"},
    "runtime": {"errors", "info", "files", "images", "bundle"},
    "prediction": {"errors", "info", "files", "images", "bundle", "runtime"},
    "tasks": {*LEAVES, "backbone", "data", "prediction", "runtime"},
    "bulk": {*LEAVES, "prediction", "runtime", "tasks"},
    "serve": {*LEAVES, "prediction", "runtime", "tasks"},
    "evaluation": {*LEAVES, "data", "prediction", "tasks"},
    "exporting": {*LEAVES, "data", "prediction", "runtime", "tasks", "evaluation"},
    "analysis": set(),
    "training": {*LEAVES, "backbone", "data", "tasks", "analysis"},
    "benchmark": {*LEAVES, "backbone", "runtime", "tasks", "exporting", "analysis"},
    "inspection": {*LEAVES, "backbone", "prediction", "tasks", "training"},
}


def heavy_after(code: str) -> tuple[str, str]:
    """Runs code in a fresh interpreter: its standard output, and the heavy packages it loaded."""
    report = f"import sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.rstrip("\n").rpartition("\n")[2]


def test_light_modules_load_nothing_heavy() -> None:
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {LIGHT!r}:",
            "    importlib.import_module(name)",
            f"    print(name, *sorted(set({HEAVY!r}) & set(sys.modules)))",
        ]
    )
    out, _ = heavy_after(code)
    assert out.splitlines() == list(LIGHT), "the first line with more than a name is the one that loads it"


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--help"], "quickstart"), (["--version"], fishnet.__version__), (["train"], "classify")]
)
def test_asking_for_help_loads_nothing_heavy(arguments: list[str], word: str) -> None:
    out, heavy = heavy_after(f"from fishnet.cli import main; assert main({arguments!r}) == 0")
    assert word in out
    assert heavy == ""


def test_help_of_training_loads_nothing_heavy() -> None:
    out, heavy = heavy_after("from fishnet.cli import main; assert main(['train', 'classify', '--help']) == 0")
    assert "--label-smoothing" in out
    assert heavy == ""


def test_a_prediction_by_torch_loads_no_reader_of_datasets(bundle: Path, folder: Path, tmp_path: Path) -> None:
    """Imports are nearly all of the time of one prediction: torch, torchvision and timm, which no one can leave out."""
    photo = next(folder.rglob("*.png"))
    code = (
        "import sys; from fishnet.cli import main\n"
        f"assert main(['predict', {str(bundle)!r}, {str(photo)!r}, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        "print(*sorted(name for name in sys.modules if name.startswith('fishnet.')))"
    )
    out, heavy = heavy_after(code)
    assert heavy.split() == ["timm", "torch", "torchvision"]
    loaded = out.splitlines()[-1].split()
    assert not [name for name in loaded if name.startswith(("fishnet.training", "fishnet.evaluation"))]
    assert not [name for name in loaded if name.endswith(".open")]
    readers = [name for name in loaded if name.startswith("fishnet.data.")]
    assert len(readers) < 40, readers  # of about 110


def test_public_names_resolve() -> None:
    for name in fishnet.__all__:
        assert getattr(fishnet, name) is not None
        assert name in dir(fishnet)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = fishnet.laod


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST) -> Iterator[str]:
    """Every module that a file imports at run time, also inside functions."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            assert child.module is not None
            yield from ([f"fishnet.{a.name}" for a in child.names] if child.module == "fishnet" else [child.module])
        yield from imports(child)


def arrows() -> dict[str, dict[str, str]]:
    """room -> rooms it imports -> a file that does."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE)
        room = room_of(place.with_suffix("").parts)
        targets = found.setdefault(room, {})
        for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] == "fishnet" and len(parts) > 1 and room_of(parts[1:]) != room and parts[1] != "__version__":
                targets.setdefault(room_of(parts[1:]), str(place))
    return found


def room_of(parts: Sequence[str]) -> str:
    """The room of a module, named without the package."""
    inner = {("tasks", "info"): "info"} | {("analysis", name): name for name in ("benchmark", "inspection")}
    return inner.get(tuple(parts[:2]), parts[0])


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    named = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ("fishnet", *file.relative_to(SOURCE).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imported(file: Path, known: Collection[str]) -> set[str]:
    """The modules of the package that a file imports at run time, also inside functions."""

    def names(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield inner if inner in known else str(child.module)
            yield from names(child)

    return {name for name in names(ast.parse(file.read_text(encoding="utf-8"))) if name in known}


def circles(graph: Mapping[str, Collection[str]]) -> list[set[str]]:
    """Groups of more than one that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for name in graph.get(waiting.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return seen

    reach = {name: reached(name) for name in graph}
    groups = [{other for other in reach[name] if name in reach.get(other, ())} for name in graph]
    return [group for i, group in enumerate(groups) if len(group) > 1 and group not in groups[:i]]


def test_the_check_sees_the_arrows() -> None:
    seen = arrows()
    assert "tasks" in seen["exporting"], "an import inside a function counts"
    assert "training" not in seen["tasks"]
    assert {"training", "prediction", "errors"} <= set(seen["cli"])
    assert "runtime" in seen["tasks"]
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [{"b", "c"}]


@pytest.mark.parametrize("room", sorted(arrows()))
def test_arrows_point_one_way(room: str) -> None:
    targets = arrows()[room]
    if room not in ("cli", "__main__"):
        assert "cli" not in targets, targets["cli"]
        if room != "__init__":
            beyond = {target: file for target, file in targets.items() if target not in ALLOWED[room]}
            assert not beyond


def test_no_circles() -> None:
    known = modules()
    graph = {name: imported(file, known) for name, file in known.items()}
    assert circles(graph) == []
    assert circles({room: set(targets) for room, targets in arrows().items()}) == []


def test_nothing_lies_loose() -> None:
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def test_files_and_functions_are_short() -> None:
    """At most 400 lines a file, and 50 a function."""
    too_long = {}
    for file in SOURCE.rglob("*.py"):
        text, name = file.read_text(encoding="utf-8"), str(file.relative_to(SOURCE))
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        too_long |= {f"{name}: {each.name}": body_lines(each) for each in functions if body_lines(each) > 50}
        too_long |= {name: text.count("\n")} if text.count("\n") > 400 else {}
    assert too_long == {}
