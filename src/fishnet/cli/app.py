"""The command tree, the options of all verbs, and how errors are printed."""

import atexit
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError
from cyclopts.config import Dict

from fishnet import __version__
from fishnet.errors import InputError, WorkError
from fishnet.files.terminal import discard_output, escaped_output, unescaped
from fishnet.runtime.memory import keep_memory

EXTRAS = {
    "torch": "torch", "torchvision": "torch", "timm": "torch",
    "pytorch_lightning": "train", "torchmetrics": "train", "matplotlib": "train", "tensorboard": "train",
    "huggingface_hub": "hub", "pyarrow": "data", "datumaro": "convert", "datasets": "data",
    "fsspec": "data", "av": "data",
    "onnxruntime": "onnx", "onnx": "export", "onnxscript": "export", "openvino": "openvino",
    "nncf": "openvino", "fastapi": "serve", "uvicorn": "serve", "starlette": "serve", "prometheus_client": "serve",
    "python_multipart": "serve",
}  # fmt: skip

VERBS = {
    "train": ("fishnet.cli.train:app", "Train a model on your data and save it as a bundle."),
    "val": ("fishnet.cli.val:val", "Evaluate a bundle: metrics, per-class results, figures, worst mistakes."),
    "predict": ("fishnet.cli.predict:predict", "Predict on images and videos: files, folders, patterns."),
    "export": ("fishnet.cli.export:export", "Export a bundle to ONNX, OpenVINO or torch.export, and check the file."),
    "serve": ("fishnet.cli.serve:serve", "Serve models over HTTP, with a page for the browser."),
    "info": ("fishnet.cli.info:info", "Describe a network, a bundle or an exported file."),
    "benchmark": ("fishnet.cli.benchmark:benchmark", "Measure how fast models run on this machine, by engine."),
    "inspect": ("fishnet.cli.inspect:inspect", "Look inside networks: stages, isolated convolutions, gradients."),
    "list": ("fishnet.cli.list:list_", "List networks by name, with parameters and MACs."),
    "weights": ("fishnet.cli.weights:app", "Inspect and convert checkpoint files."),
    "data": ("fishnet.cli.data:app", "Check data, show what a network sees of it, and convert it."),
    "push": ("fishnet.cli.push:push", "Upload a bundle to the Hugging Face Hub, with a model card."),
    "quickstart": ("fishnet.cli.quickstart:quickstart", "Train, evaluate and use a small FishNet on Fashion-MNIST."),
}


def build_app(verb: str | None = None) -> App:
    """Builds the command tree. Verbs are imported when they are used.

    Args:
        verb: the verb that is run. Its help text is its docstring; each other verb only has its line in ``VERBS``.
    """
    app = App(
        name="fishnet",
        version=__version__,
        help="Train, evaluate and deploy vision models with FishNet backbones. `fishnet VERB --help` explains a verb. "
        "With every verb, `--config FILE.yaml` reads options from a file, and `--debug` shows tracebacks.",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for name, (target, line) in VERBS.items():
        app.command(target, name=name, **({} if name == verb else {"help": line}))
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments, without the program's name; by default those of the process.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 wrong usage or bad input, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in tokens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal may not support characters in file names
    tokens = [token for token in tokens if token != "--debug"]
    with escaped_output():
        try:
            return _dispatch(tokens)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _print_error(error)
        except KeyboardInterrupt as interrupt:
            return _print_line(str(interrupt) or "interrupted", 130)


def _dispatch(tokens: list[str]) -> int:
    """Runs the verb that the arguments name. Returns its exit code."""
    from rich.console import Console

    tokens, config = _take_config(tokens)
    app = build_app(next(iter(tokens), None))
    app.console = Console(file=unescaped(sys.stdout))
    if config is not None:
        app.config = (Dict(_read_config(config), source=str(config), use_commands_as_keys=False),)
    code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs :func:`main` and ends the process with its exit code. ``fishnet`` and ``python -m fishnet`` start here.

    After the registered exit functions the process ends with ``os._exit``. Otherwise Python would take all imported
    modules apart first, 0.85 of the 3.5 s of a prediction by torch (benchmarks/startup.md). And in a training of
    several processes, gloo's threads may use the interpreter while it shuts down, and abort a process whose work is
    done (pytorch/pytorch issue 190489; seen in about one of thirty trainings here).

    A profiler or a measurement of coverage writes its results when Python ends in order, so a process with one does
    that, unless it is one of several.
    """
    keep_memory()
    code = main(argv)
    distributed: Any = sys.modules.get("torch.distributed")
    is_one_of_several = distributed is not None and distributed.is_available() and distributed.is_initialized()
    if (sys.gettrace() or sys.getprofile()) and not is_one_of_several:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


def _take_config(tokens: list[str]) -> tuple[list[str], Path | None]:
    """Removes ``--config FILE`` (or ``--config=FILE``) from the arguments. Returns the rest, and the file."""
    rest: list[str] = []
    config: Path | None = None
    remaining = iter(tokens)
    for token in remaining:
        if token == "--config":
            value = next(remaining, None)
            if value is None:
                raise InputError("--config needs a file")
            config = Path(value)
        elif token.startswith("--config="):
            config = Path(token.removeprefix("--config="))
        else:
            rest.append(token)
    return rest, config


def _read_config(config: Path) -> dict[str, Any]:
    from fishnet.files.documents import read_yaml

    values = read_yaml(config)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{config}: a config consists of FLAG: VALUE lines")
    return values


def _print_error(error: Exception) -> int:
    """Prints an error as one line. Returns the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of a pipe has closed it
        discard_output()
        return 0
    line, code = str(error), 2
    module = str(getattr(error, "name", "")).split(".")[0]
    if isinstance(error, ModuleNotFoundError) and module in EXTRAS:
        line = f"this needs {module}: pip install 'fishnet-vision[{EXTRAS[module]}]'"
    elif isinstance(error, OSError) and error.strerror:
        line, code = f"{error.filename or 'input or output'}: {error.strerror}", 1
        if error.errno == errno.ENOSPC and error.filename is None:  # perhaps of standard output, whose flush would fail
            discard_output()
    elif isinstance(error, WorkError):
        code = 1
    elif not isinstance(error, InputError | CycloptsError):
        first = (line.strip().splitlines() or [""])[0]
        line, code = f"unexpected {type(error).__name__}: {first} (--debug shows where)", 1
    return _print_line(line, code)


def _print_line(line: str, code: int) -> int:
    print(f"fishnet: {' '.join(line.split())}", file=sys.stderr)
    return code
