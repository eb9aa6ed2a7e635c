"""The command tree, the options that go anywhere, and what errors look like."""

import atexit
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError
from cyclopts.config import Dict

from fishnet import __version__
from fishnet.errors import InputError, WorkError
from fishnet.files.terminal import bare, escaped_output, give_up_output

EXTRAS = {
    "torch": "torch", "torchvision": "torch", "timm": "torch",
    "pytorch_lightning": "train", "torchmetrics": "train", "matplotlib": "train", "tensorboard": "train",
    "huggingface_hub": "hub", "pyarrow": "data", "datumaro": "convert", "datasets": "data",
    "av": "data", "onnxruntime": "onnx", "onnx": "export", "onnxscript": "export", "openvino": "openvino",
    "nncf": "openvino",
}  # fmt: skip

VERBS = {
    "train": ("fishnet.cli.train:app", "Train a model on your data; leaves a bundle."),
    "val": ("fishnet.cli.val:val", "Measure a bundle: metrics, every class, figures, the worst mistakes."),
    "predict": ("fishnet.cli.predict:predict", "Predict images and videos: files, folders, patterns."),
    "export": ("fishnet.cli.export:export", "Export a bundle to ONNX, OpenVINO or torch.export, compared with it."),
    "info": ("fishnet.cli.info:info", "What a network or a bundle is."),
    "benchmark": ("fishnet.cli.benchmark:benchmark", "How fast models are here, by every engine that runs them."),
    "list": ("fishnet.cli.list:list_", "Networks by name, with parameters and MACs."),
    "weights": ("fishnet.cli.weights:app", "Inspect and convert checkpoint files."),
    "data": ("fishnet.cli.data:app", "Check data, and look at what a network sees of it."),
    "push": ("fishnet.cli.push:push", "Send a bundle to Hugging Face's hub, with a model card."),
    "quickstart": ("fishnet.cli.quickstart:quickstart", "A small FishNet on Fashion-MNIST, from data to images."),
}


def build_app() -> App:
    """The command tree; verbs are imported when they are used."""
    app = App(
        name="fishnet",
        version=__version__,
        help="One FishNet backbone: train, validate and predict. `fishnet VERB --help` explains a verb. Anywhere: "
        "`--config FILE.yaml` reads options from a file, `--debug` shows tracebacks.",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for verb, (target, text) in VERBS.items():
        app.command(target, name=verb, help=text)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments, without the program's name; by default the process's.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 wrong usage or bad input, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in tokens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
    tokens = [token for token in tokens if token != "--debug"]
    with escaped_output():
        try:
            return _dispatch(tokens)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _explain(error)
        except KeyboardInterrupt as interrupt:
            return _say(str(interrupt) or "interrupted", 130)


def _dispatch(tokens: list[str]) -> int:
    """Runs the verb that the arguments name; gives its exit code."""
    from rich.console import Console

    app = build_app()
    app.console = Console(file=bare(sys.stdout))
    tokens, config = _take_config(tokens)
    if config is not None:
        app.config = (Dict(_read_config(config), source=str(config), use_commands_as_keys=False),)
    code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs :func:`main` and ends the process with its exit code: what ``fishnet`` and ``python -m fishnet`` start.

    One of several processes of a training ends at once, after what is registered for the exit: while the interpreter
    is taken down gloo's threads may still want it, and abort a process whose work is done (pytorch/pytorch issue
    190489; one of some thirty trainings here).
    """
    code = main(argv)
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _take_config(tokens: list[str]) -> tuple[list[str], Path | None]:
    """Takes ``--config FILE`` (or ``--config=FILE``) out of the arguments, wherever it stands."""
    rest: list[str] = []
    config: Path | None = None
    words = iter(tokens)
    for word in words:
        if word == "--config":
            value = next(words, None)
            if value is None:
                raise InputError("--config needs a file")
            config = Path(value)
        elif word.startswith("--config="):
            config = Path(word.removeprefix("--config="))
        else:
            rest.append(word)
    return rest, config


def _read_config(config: Path) -> dict[str, Any]:
    from fishnet.files.documents import read_yaml

    values = read_yaml(config)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{config}: a config is a list of FLAG: VALUE lines")
    return values


def _explain(error: Exception) -> int:
    """Prints one line for a person; gives the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of a pipe has left: nothing to explain
        give_up_output()
        return 0
    line, code = str(error), 2
    module = str(getattr(error, "name", "")).split(".")[0]
    if isinstance(error, ModuleNotFoundError) and module in EXTRAS:
        line = f"this needs {module}: pip install 'fishnet-vision[{EXTRAS[module]}]'"
    elif isinstance(error, OSError) and error.strerror:
        line, code = f"{error.filename or 'input or output'}: {error.strerror}", 1
        if error.errno == errno.ENOSPC and error.filename is None:  # perhaps of standard output, which is flushed again
            give_up_output()
    elif isinstance(error, WorkError):
        code = 1
    elif not isinstance(error, InputError | CycloptsError):
        first = (line.strip().splitlines() or [""])[0]
        line, code = f"unexpected {type(error).__name__}: {first} (--debug shows where)", 1
    return _say(line, code)


def _say(line: str, code: int) -> int:
    print(f"fishnet: {' '.join(line.split())}", file=sys.stderr)
    return code
