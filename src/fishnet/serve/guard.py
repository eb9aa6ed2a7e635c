"""What every request passes first: the number of requests at once, the token, and what is counted."""

import hmac
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fishnet.serve.problems import ProblemError
from fishnet.serve.routes import problem_response
from fishnet.serve.service import Service

_OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # for probes: no token, and never refused
_PAGE = ("/", "/page/")  # the page has no data, and asks for the token itself


class Guard:
    """Counts requests, and refuses those beyond the limit or without the token.

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
        metrics, start, status = self._service.metrics, time.monotonic(), 499  # as nginx: the client is gone

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        metrics.running.inc()
        try:
            problem = self._problem(scope)
            await (self._app if problem is None else problem_response(problem, scope["path"]))(scope, receive, counted)
        finally:
            self._running -= 1
            metrics.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            metrics.requests.labels(route, status).inc()
            metrics.request_seconds.labels(route).observe(time.monotonic() - start)

    def _problem(self, scope: Scope) -> ProblemError | None:
        path, limits = scope["path"], self._service.limits
        if path in _OPEN:
            return None
        if self._running > limits.max_requests:
            return ProblemError(
                503, "too_many_requests", f"{limits.max_requests} requests run: try again later", retry_after=1
            )
        if path == _PAGE[0] or path.startswith(_PAGE[1]) or scope["method"] == "OPTIONS":
            return None
        return None if self._has_token(Headers(scope=scope)) else _UNAUTHORIZED

    def _has_token(self, headers: Headers) -> bool:
        token = self._service.settings.token
        if not token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


_UNAUTHORIZED = ProblemError(
    401, "unauthorized", "send the header Authorization: Bearer TOKEN with this service's token"
)
