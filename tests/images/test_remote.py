"""Images from the web: limits of size, time and redirects, against a server of this test's own."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images import remote
from fishnet.images.preprocess import Preprocess
from fishnet.images.remote import download, is_address
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.sources import find_sources
from tests.hostile.images import EPS, saved
from tests.makers import image

RED = saved(image("red", 0), "PNG")


class Answers(BaseHTTPRequestHandler):
    """What a server may do."""

    def do_GET(self) -> None:
        """Answers by the path."""
        name = self.path.strip("/")
        answer = getattr(self, f"_{name.replace('.', '_')}", None)
        if answer is None:
            self.send_error(404)
        else:
            answer()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _send(self, content: bytes, length: int | None = None, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    def _red_png(self) -> None:
        self._send(RED, len(RED))

    def _unsaid(self) -> None:
        self._send(RED)

    def _eps_jpg(self) -> None:
        self._send(EPS, len(EPS), **{"Content-Type": "image/jpeg"})

    def _announces_much(self) -> None:
        self._send(b"", 10**12)

    def _sends_much(self) -> None:
        try:
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))
        except OSError:
            pass

    def _breaks_off(self) -> None:
        self._send(RED[:100], len(RED))

    def _to_red(self) -> None:
        self._send(b"", 0, 302, Location="/red.png")

    def _in_circles(self) -> None:
        self._send(b"", 0, 302, Location="/in.circles")

    def _to_a_file(self) -> None:
        self._send(b"", 0, 302, Location="file:///etc/hostname")

    def _to_ftp(self) -> None:
        self._send(b"", 0, 302, Location="ftp://127.0.0.1/a")

    def _slow(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            try:
                self.wfile.write(b"a")
                time.sleep(0.1)
            except OSError:
                return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of the server."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()


@pytest.mark.parametrize("path", ["red.png", "unsaid", "to.red"])
def test_what_is_downloaded(path: str, server: str) -> None:
    assert download(f"{server}/{path}") == RED


@pytest.mark.parametrize(
    ("path", "words"),
    [("nothing", "the server answered 404"), ("announces.much", "1,000,000,000,000 bytes are too many"),
     ("sends.much", "too large"), ("breaks.off", "broke off after 100 of"), ("in.circles", "the server answered 302"),
     ("to.a.file", "file:///etc/hostname' is not allowed"),
     ("to.ftp", "leads to ftp://127.0.0.1/a: only http and https addresses")],
)  # fmt: skip
def test_what_is_not(path: str, words: str, server: str) -> None:
    with pytest.raises(InputError) as caught:
        download(f"{server}/{path}", limit=1 << 20)
    assert str(caught.value).startswith(f"{server}/{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_slow_ones_end_in_time(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=r"too slow|longer than"):
        download(f"{server}/slow", seconds=0.5)
    assert time.monotonic() - start < 5  # of the 10 seconds that the answer takes


def test_a_header_that_never_ends() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        peer, _ = listener.accept()
        try:
            for _ in range(100):
                peer.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    threading.Thread(target=trickle, daemon=True).start()
    with pytest.raises(InputError, match="longer than"):
        download(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=0.5)
    listener.close()


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data://a", "s3://bucket/a.png"])
def test_other_schemes(address: str) -> None:
    assert is_address(address)
    for take in (download, lambda name: find_sources([name])):
        with pytest.raises(InputError, match="only http and https addresses are supported"):
            take(address)


@pytest.mark.parametrize("name", ["a.png", "C:/a.png", "C:\\a.png", "a//b.png", "./http:/a", "://a"])
def test_paths_are_no_addresses(name: str) -> None:
    assert not is_address(name)


def test_prediction_of_addresses(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SECONDS", 5.0)
    bundle = Bundle.single("classify", "none", Classes.of(["red", "green", "blue"]), Preprocess((16, 16)))
    predictor = Predictor(bundle, lambda batch: batch.mean((2, 3)))
    assert predictor.predict(f"{server}/red.png").rows()[0]["name"] == "red"
    results = dict(predictor.stream(find_sources([f"{server}/red.png", f"{server}/eps.jpg", f"{server}/x.mp4"])))
    assert [type(result).__name__ for result in results.values()] == ["Classification", "Failure", "Failure"]
    assert "PostScript" in str(results[f"{server}/eps.jpg"])
    assert "404" in str(results[f"{server}/x.mp4"])
