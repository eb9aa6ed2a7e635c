"""Images from the web: one GET over http or https, with limits of size, time and redirects. Torch-free."""

import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO, Any

from fishnet.errors import InputError, first_line

LIMIT = 256 << 20  # bytes of an answer
SECONDS = 30.0  # for all of it, redirects included
_REDIRECTS = 5
_SCHEMES = ("http", "https")
_STEP = 1 << 16


def is_address(source: str) -> bool:
    """Whether a source is an address (``scheme://...``) rather than a path."""
    scheme, mark, _ = source.partition("://")
    return bool(mark) and scheme.isalnum() and scheme.isascii()


def download(address: str, *, limit: int = LIMIT, seconds: float = SECONDS) -> bytes:
    """The content of an http or https address.

    Args:
        address: whose host the user trusts: it is asked as it stands, also within the user's own network.
        limit: bytes at most; no more are ever kept.
        seconds: for everything, from the look-up of the name to the last byte.

    Raises:
        InputError: another scheme, no such address, an error of the server, more than the limit or fewer bytes than it
            announced, or too long a time; the message names the address.
    """
    if _scheme(address) not in _SCHEMES:
        raise InputError(f"{address}: only addresses of http and https are read")
    answer: list[bytes | InputError] = []
    end = time.monotonic() + seconds

    def work() -> None:
        try:
            answer.append(_fetched(address, limit, end))
        except InputError as error:
            answer.append(error)
        except Exception as error:  # of the sockets, of TLS and of a server that speaks no HTTP
            answer.append(InputError(f"{address}: cannot be read ({_reason(error)})"))

    # Its own thread, since a server that sends a header a byte at a time outlasts any timeout of a socket.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        raise InputError(f"{address}: took longer than {seconds:g} seconds")
    if isinstance(answer[0], InputError):
        raise answer[0]
    return answer[0]


def _scheme(address: str) -> str:
    """An address's scheme, in lower case. Raises InputError for what is no address."""
    try:
        return urllib.parse.urlsplit(address).scheme.lower()
    except ValueError as error:
        raise InputError(f"{address}: no address that can be read ({error})") from None


def _fetched(address: str, limit: int, end: float) -> bytes:
    request = urllib.request.Request(address, headers={"User-Agent": "fishnet-vision", "Accept": "image/*, */*;q=0.1"})
    with _opener().open(request, timeout=max(0.1, end - time.monotonic())) as response:
        announced = response.headers.get("Content-Length")
        if announced is not None and announced.isdigit() and len(announced) < 20 and int(announced) > limit:
            raise InputError(f"{address}: {int(announced):,} bytes are too many for an image (at most {limit:,})")
        parts, count = list[bytes](), 0
        while part := response.read1(_STEP):
            count += len(part)
            if count > limit:
                raise InputError(f"{address}: too large for an image (at most {limit:,} bytes)")
            if time.monotonic() > end:
                raise TimeoutError("too slow")
            parts.append(part)
        if announced is not None and announced.isdigit() and count < int(announced):
            raise InputError(f"{address}: broke off after {count:,} of {announced} bytes")
    return b"".join(parts)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Some redirects, to http and https alone."""

    max_redirections = _REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The next request. Raises InputError for another scheme."""
        if _scheme(newurl) not in _SCHEMES:
            raise InputError(f"{req.full_url}: leads to {newurl}: only addresses of http and https are read")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https and nothing else: no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    handlers: tuple[Callable[[], urllib.request.BaseHandler], ...] = (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server says {error.code} {first_line(Exception(error.reason))}"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return "too slow"
    reason = getattr(error, "reason", None)
    return first_line(reason if isinstance(reason, Exception) else error)
