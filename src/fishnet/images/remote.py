"""Downloading images: one GET over http or https, limited in size, time and redirects. Torch-free."""

import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO, Any

from fishnet.errors import InputError, first_line

LIMIT = 256 << 20  # maximum bytes of a response
SECONDS = 30.0  # maximum time in all, including redirects
_MAX_REDIRECTS = 5
_SCHEMES = ("http", "https")
_CHUNK = 1 << 16


def is_address(source: str) -> bool:
    """Whether a source is an address (``scheme://...``) rather than a path."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.isalnum() and scheme.isascii()


def download(address: str, *, limit: int = LIMIT, seconds: float = SECONDS) -> bytes:
    """Downloads the content of an http or https address.

    Args:
        address: an address that the user trusts. It is requested as given, also within the user's own network.
        limit: maximum bytes; no more are ever kept.
        seconds: for everything, from the name look-up to the last byte.

    Raises:
        InputError: another scheme, no such address, a server error, more bytes than the limit, fewer than announced,
            or a timeout. The message names the address.
    """
    if _scheme(address) not in _SCHEMES:
        raise InputError(f"{address}: only http and https addresses are supported")
    outcome: list[bytes | InputError] = []
    end = time.monotonic() + seconds

    def work() -> None:
        try:
            outcome.append(_fetched(address, limit, end))
        except InputError as error:
            outcome.append(error)
        except Exception as error:  # from sockets, TLS, or a server that does not speak HTTP
            outcome.append(InputError(f"{address}: cannot be read ({_reason(error)})"))

    # In a thread, since a server that sends headers byte by byte outlasts any socket timeout.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise InputError(f"{address}: took longer than {seconds:g} seconds")
    if isinstance(outcome[0], InputError):
        raise outcome[0]
    return outcome[0]


def _scheme(address: str) -> str:
    """An address's scheme, in lower case. Raises InputError if it cannot be parsed."""
    try:
        return urllib.parse.urlsplit(address).scheme.lower()
    except ValueError as error:
        raise InputError(f"{address}: is not a valid address ({error})") from None


def _fetched(address: str, limit: int, end: float) -> bytes:
    request = urllib.request.Request(address, headers={"User-Agent": "fishnet-vision", "Accept": "image/*, */*;q=0.1"})
    with _opener().open(request, timeout=max(0.1, end - time.monotonic())) as response:
        announced = response.headers.get("Content-Length")
        if announced is not None and announced.isdigit() and len(announced) < 20 and int(announced) > limit:
            raise InputError(f"{address}: {int(announced):,} bytes are too many for an image (at most {limit:,})")
        chunks, count = list[bytes](), 0
        while chunk := response.read1(_CHUNK):
            count += len(chunk)
            if count > limit:
                raise InputError(f"{address}: too large for an image (at most {limit:,} bytes)")
            if time.monotonic() > end:
                raise TimeoutError("too slow")
            chunks.append(chunk)
        if announced is not None and announced.isdigit() and count < int(announced):
            raise InputError(f"{address}: broke off after {count:,} of {announced} bytes")
    return b"".join(chunks)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A limited number of redirects, only to http and https."""

    max_redirections = _MAX_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The next request. Raises InputError for another scheme."""
        if _scheme(newurl) not in _SCHEMES:
            raise InputError(f"{req.full_url}: leads to {newurl}: only http and https addresses are supported")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only: no files, no ftp."""
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
        return f"the server answered {error.code} {first_line(Exception(error.reason))}"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return "too slow"
    reason = getattr(error, "reason", None)
    return first_line(reason if isinstance(reason, Exception) else error)
