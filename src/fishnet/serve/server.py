"""Runs the service: one process, or several that share a port."""

import os
import shutil
import signal
import tempfile
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from fishnet.bundle.bundle import read_bundle
from fishnet.bundle.hub import bundle_path
from fishnet.errors import InputError, WorkError
from fishnet.runtime.exported import is_exported
from fishnet.serve.app import create_app
from fishnet.serve.metrics import MULTIPROC_DIR
from fishnet.serve.settings import Settings

_SETTINGS = "FISHNET_SERVE"  # environment variable from which workers read the settings


def serve(settings: Settings, host: str, port: int, workers: int = 1, quiet: bool = False) -> None:
    """Serves until the process receives SIGTERM or SIGINT; then running requests end first.

    Args:
        settings: the service's models and limits.
        host, port: where it listens.
        workers: number of processes; each has its own models and limits.
        quiet: whether to log only warnings and errors.

    Raises:
        WorkError: the port cannot be listened on.
        InputError: a port or a number of workers that is out of range, or a model that cannot be loaded.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: must be 0 to 65535")
    if workers < 1:
        raise InputError(f"--workers {workers}: must be 1 or more")
    options: dict[str, Any] = {
        "host": host, "port": port, "lifespan": "on", "server_header": False, "access_log": not quiet,
        "log_level": "warning" if quiet else "info", "timeout_graceful_shutdown": max(1, round(settings.limits.drain)),
        "ws": "none", "http": "h11",  # h11 limits the size of headers
    }  # fmt: skip
    if workers == 1:
        app = create_app(settings)
        app.state.service.models.load()  # before the server starts: what is wrong is then one line
        server = uvicorn.Server(uvicorn.Config(app, **options))
        # uvicorn ends in order, and then sends itself the signal again, which would otherwise be the exit code
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(server, "should_exit", True))
        with suppress(KeyboardInterrupt, SystemExit):  # the same for SIGINT; and it exits where it cannot listen
            server.run()
        if not server.started:
            raise WorkError(f"{host}:{port}: cannot be listened on: choose another --port")
        return
    for source in settings.models.values():
        check_source(source)
    shared = tempfile.mkdtemp(prefix="fishnet-metrics-")
    os.environ.update({MULTIPROC_DIR: shared, _SETTINGS: settings.to_text()})
    try:
        uvicorn.run("fishnet.serve.server:app_of_environment", factory=True, workers=workers, **options)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def check_source(source: str) -> None:
    """Looks at a model without loading it.

    Raises:
        InputError: there is none, or its description is damaged.
    """
    path = bundle_path(source)
    if not is_exported(path):
        read_bundle(path)
    elif not path.is_file():
        raise InputError(f"{path}: no such file: fishnet export writes one")


def app_of_environment() -> FastAPI:
    """The application of a worker, whose settings the first process wrote into the environment."""
    return create_app(Settings.from_text(os.environ[_SETTINGS]))
