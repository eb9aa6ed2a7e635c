"""``fishnet serve MODEL...``."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fishnet.errors import InputError
from fishnet.runtime.precision import Precision

_TOKEN = "FISHNET_TOKEN"
_LOOPBACK = ("localhost", "::1")
_ORIGIN = re.compile(r"https?://[^/\s?#]+")


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    max_batch: int | None = None,
    max_wait_ms: float = 2.0,
    max_mb: float = 32.0,
    max_pixels: int = 50_000_000,
    max_images: int = 16,
    max_passes: int = 64,
    queue: int = 64,
    max_requests: int = 128,
    timeout: float = 30.0,
    body_timeout: float = 10.0,
    drain: float = 20.0,
    token_file: Path | None = None,
    cors: tuple[str, ...] = (),
    reload_seconds: float = 0.0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Precision = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
    quiet: bool = False,
) -> None:
    """Serve models over HTTP, with a page for the browser at /.

    POST an image file to /v1/predict; /openapi.json describes all routes, and docs/serving.md explains them. Clients of
    KServe and Triton use the Open Inference Protocol v2 below /v2. Images of the same size from several requests are
    computed together. An exported file needs no torch.

    SIGTERM stops the service once running requests have ended, and SIGHUP loads the models again.

    Parameters
    ----------
    models
        Bundles, exported files, or networks with weights in this package; NAME=SOURCE gives a model another name. The
        first one is the default.
    host
        Address to listen on. Default: only this machine. 0.0.0.0: all of its addresses; set --token-file then.
    port
        Port to listen on.
    workers
        Number of processes that share the port. Each loads the models, and has its own limits.
    max_batch
        Maximum number of images that are computed together. Default: the model's batch size.
    max_wait_ms
        How long an image waits for others to be computed with, milliseconds.
    max_mb
        Maximum size of a request's body, MiB.
    max_pixels
        Maximum number of pixels of an image, checked before it is decoded.
    max_images
        Maximum number of images of a request.
    max_passes
        Maximum number of passes through the network for one image, with tiles and averages.
    queue
        Maximum number of images that are queued or in progress. Further requests are answered with 429.
    max_requests
        Maximum number of concurrent requests. Further ones are answered with 503.
    timeout
        Seconds for a request once its body has arrived.
    body_timeout
        Seconds in which a body must arrive.
    drain
        Seconds that running requests have to end when the service stops.
    token_file
        File with a token. Requests then need the header Authorization: Bearer TOKEN. The environment variable
        FISHNET_TOKEN can hold the token instead.
    cors
        Origins of web pages that may call the service, such as https://example.org.
    reload_seconds
        How often to check the model files for changes, seconds; changed models are loaded again. Default: never.
    device
        Device to compute on. Exported files run on the CPU; .onnx files also on cuda, if onnxruntime supports it.
    precision
        Precision to compute in: auto, fp32, bf16 or fp16, as for predict.
    trust
        Open .pt2 files, which can run any code of their author. No other kind of model needs this.
    quiet
        Log only warnings and errors.
    """
    from fishnet.serve.models import named_sources
    from fishnet.serve.server import serve as run
    from fishnet.serve.settings import MIB, Limits, Settings

    limits = Limits(
        max_bytes=round(max_mb * MIB), max_pixels=max_pixels, max_images=max_images, max_passes=max_passes,
        queue=queue, max_requests=max_requests, timeout=timeout, body_timeout=body_timeout, max_batch=max_batch,
        max_wait_ms=max_wait_ms, drain=drain,
    )  # fmt: skip
    _check_origins(cors)
    token = _read_token(token_file)
    if not (token or host in _LOOPBACK or host.startswith("127.")):
        line = "anyone who can reach this address can send requests; use --token-file to require a token"
        print(f"fishnet: {host}: {line}", file=sys.stderr)
    settings = Settings(
        named_sources(models), limits, device=device, precision=precision, trust=trust, token=token, origins=cors,
        reload_seconds=reload_seconds,
    )  # fmt: skip
    run(settings, host, port, workers, quiet)


def _read_token(file: Path | None) -> str:
    """The token from a file or the environment; empty for none.

    Raises:
        InputError: a file that cannot be read or is empty, or a token that no header can hold.
    """
    if file is None:
        source, token = _TOKEN, os.environ.get(_TOKEN, "").strip()
    else:
        try:
            source, token = str(file), file.read_text().strip()
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot be read ({error})") from error
        if not token:
            raise InputError(f"{file}: is empty: write the token into it")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{source}: must hold one word of ASCII characters")
    return token


def _check_origins(origins: tuple[str, ...]) -> None:
    """Raises InputError for origins that no browser sends."""
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise InputError(f"--cors {origin}: must be an origin such as https://example.org, without a path, or *")
