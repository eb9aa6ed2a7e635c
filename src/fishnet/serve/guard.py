"""What every request passes first: the number of requests at once, the token, and what is counted."""

import hmac
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fishnet.serve.problems import ProblemError, internal_error
from fishnet.serve.routes import problem_response
from fishnet.serve.service import Service

LOG = logging.getLogger("uvicorn.error")

_PROBES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # need no token
_NEVER_REFUSED = (*_PROBES, "/metrics")  # also when the service is overloaded
_PAGE = ("/", "/page/")  # the page has no data, and asks for the token itself
_CLIENT_CLOSED = 499  # as nginx has it


class Guard:
    """Counts requests, refuses those beyond the limit or without the token, and answers those that end with an error.

    A connection on which the rest of a body may still arrive is closed after the answer.

    Args:
        app: the application behind.
        service: whose requests these are.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._running = app, service, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, exchange = self._service.metrics, _Exchange(scope, receive, send)
        is_counted = scope["path"] not in _NEVER_REFUSED
        self._running += is_counted
        metrics.running.inc(is_counted)
        try:
            problem = self._problem(scope)
            await (self._app if problem is None else problem_response(problem, scope["path"]))(
                scope, exchange.receive, exchange.send
            )
        except Exception as error:
            LOG.exception("an error in the service")
            if exchange.status == _CLIENT_CLOSED:
                await problem_response(internal_error(error), scope["path"])(scope, exchange.receive, exchange.send)
        finally:
            self._running -= is_counted
            metrics.running.dec(is_counted)
            route = getattr(scope.get("route"), "path", "other")
            metrics.requests.labels(route, exchange.status).inc()
            metrics.request_seconds.labels(route).observe(time.monotonic() - exchange.start)

    def _problem(self, scope: Scope) -> ProblemError | None:
        path, limits = scope["path"], self._service.limits
        if path in _PROBES:
            return None
        if path not in _NEVER_REFUSED and self._running > limits.max_requests:
            return ProblemError(
                503, "overloaded", f"the limit of {limits.max_requests} concurrent requests is reached: try again", 1
            )  # fmt: skip
        if path == _PAGE[0] or path.startswith(_PAGE[1]) or scope["method"] == "OPTIONS":
            return None
        return None if self._has_token(Headers(scope=scope)) else _UNAUTHORIZED

    def _has_token(self, headers: Headers) -> bool:
        token = self._service.settings.token
        if not token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class _Exchange:
    """A request and its response: whether the body has arrived, and the status."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._has_arrived = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        self._receive, self._send = receive, send
        self.status, self.start = _CLIENT_CLOSED, time.monotonic()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._has_arrived = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._has_arrived:
                MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)


_UNAUTHORIZED = ProblemError(
    401, "unauthorized", "send the header Authorization: Bearer TOKEN with this service's token"
)
