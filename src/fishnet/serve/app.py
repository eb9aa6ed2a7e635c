"""The application: routes, page, errors, and what happens at its start and end."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fishnet import __version__
from fishnet.serve import inference, routes
from fishnet.serve.guard import Guard
from fishnet.serve.problems import ProblemError
from fishnet.serve.routes import problem_response
from fishnet.serve.service import Service
from fishnet.serve.settings import Settings

PAGE = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache",
}  # fmt: skip
_CODES = {404: "not_found", 405: "method_not_allowed"}
_CLIENT_CLOSED = 499


def create_app(settings: Settings) -> FastAPI:
    """The application of a service. Its models are loaded when it starts."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, RuntimeError, AttributeError):  # Windows, or not the main thread
            loop.add_signal_handler(signal.SIGHUP, service.request_reload)
        tasks = [asyncio.ensure_future(service.reload_when_requested())]
        if settings.reload_seconds:
            tasks.append(asyncio.ensure_future(service.watch()))
        yield
        for task in tasks:
            task.cancel()
        await service.stop()

    app = FastAPI(
        title="fishnet", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        description="Predictions of FishNet models on images.",
    )  # fmt: skip
    app.state.service = service
    app.include_router(routes.router)
    app.include_router(inference.router)
    _add_page(app)
    _add_errors(app)
    app.add_middleware(Guard, service=service)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", inference.LENGTH],
            expose_headers=["retry-after", inference.LENGTH],
        )  # fmt: skip
    return app


def _add_page(app: FastAPI) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)

    app.mount("/page", _PageFiles(directory=PAGE), name="page")


class _PageFiles(StaticFiles):
    """The files of the page, which browsers ask for again after an upgrade."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file with the page's headers."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        return problem_response(error, request.url.path)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_CLIENT_CLOSED)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        lines = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        return problem_response(ProblemError(422, "bad_option", "; ".join(lines)), request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "bad_request")
        problem = ProblemError(error.status_code, code, f"{error.detail}: see /openapi.json")
        response = problem_response(problem, request.url.path)
        response.headers.update(error.headers or {})
        return response
