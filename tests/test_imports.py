"""What importing loads, and which room may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fishnet

HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "matplotlib", "av")
LIGHT = (
    "fishnet", "fishnet.errors", "fishnet.files.documents", "fishnet.data", "fishnet.data.findings",
    "fishnet.bundle.classes", "fishnet.images.decoding", "fishnet.images.preprocess",
    "fishnet.prediction.drawing", "fishnet.prediction.results", "fishnet.prediction.tiling", "fishnet.images.video", "fishnet.bundle.bundle", "fishnet.bundle.hub",
    "fishnet.prediction.sources", "fishnet.prediction.inputs", "fishnet.images",
    "fishnet.images.opening", "fishnet.images.remote", "fishnet.prediction.options", "fishnet.prediction.blending",
    "fishnet.deploy", "fishnet.runtime.exported", "fishnet.runtime.decode", "fishnet.runtime.engines", "fishnet.prediction.predictor",
    "fishnet.training", "fishnet.recipes.recipe", "fishnet.cli", "fishnet.cli.train",
    "fishnet.cli.data", "fishnet.cli.predict", "fishnet.cli.writers",
)  # fmt: skip
SOURCE = Path(fishnet.__file__).parent

# Arrows of docs/architecture.md: cli -> training, predict, analysis -> tasks -> backbone; data, results and errors are
# leaves: nothing above them. The torch-free single files may use each other as far as there is no circle. What runs
# exported files lies below predict, and is a room of its own; the rest of deploy, which makes them, lies above it. So
# does analysis.benchmark, which measures them, above the rest of analysis.
RUNTIME = {"contract", "exported", "decode", "runtime", "pt2"}  # of deploy; but for the last torch-free
LEAVES = {"errors", "files", "images", "data", "draw", "preprocess", "results", "bundle"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "images": {"errors", "files"},
    "draw": {"errors", "files"},
    "backbone": {"errors", "files"},
    "data": {"errors", "files", "images", "preprocess"},
    "preprocess": {"errors", "files", "images", "data"},
    "results": {"errors", "files", "data", "draw"},
    "tiling": {"errors", "results"},
    "blending": {"results", "tiling"},
    "sources": {"errors", "files", "images", "data", "video"},
    "inputs": {"errors", "files", "images", "data", "preprocess", "sources", "tiling"},
    "options": {"errors", "files", "bundle"},
    "video": {"errors", "files"},
    "bundle": {"errors", "files", "data", "preprocess"},
    "hub": {"errors", "files", "bundle", "preprocess"},
    "tasks": {*LEAVES, "backbone", "hub"},
    "runtime": {"errors", "files", "bundle", "preprocess"},
    "predict": {*LEAVES, "tasks", "hub", "tiling", "blending", "sources", "inputs", "options", "runtime"},
    "analysis": {*LEAVES, "backbone", "tasks"},
    "training": {*LEAVES, "backbone", "tasks", "predict", "analysis", "hub"},
    "deploy": {*LEAVES, "tasks", "predict", "training", "sources", "inputs", "video", "hub", "runtime", "tiling"},
    "benchmark": {*LEAVES, "backbone", "tasks", "predict", "hub", "runtime", "deploy", "analysis"},
}


def heavy_after(code: str) -> tuple[str, str]:
    """Runs code in a fresh interpreter: its standard output, and the heavy packages it loaded."""
    report = f"import sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.strip()


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
    room, inner = parts[0], parts[1] if len(parts) > 1 else ""
    if room == "deploy" and inner in RUNTIME:
        return "runtime"
    return "benchmark" if (room, inner) == ("analysis", "benchmark") else room


def test_the_check_sees_the_arrows() -> None:
    seen = arrows()
    assert "tasks" in seen["predict"], "an import inside a function counts"
    assert "training" not in seen["tasks"], "an import for annotations alone does not"
    assert {"training", "predict", "errors"} <= set(seen["cli"])
    assert "runtime" in seen["predict"]
    assert "deploy" not in seen["predict"]


@pytest.mark.parametrize("room", sorted(arrows()))
def test_arrows_point_one_way(room: str) -> None:
    targets = arrows()[room]
    if room not in ("cli", "__main__"):
        assert "cli" not in targets, targets["cli"]
    if room in ALLOWED:
        beyond = {target: file for target, file in targets.items() if target not in ALLOWED[room]}
        assert not beyond
