"""What the service refuses, with which status, and that it lives on."""

import http.client
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from fishnet.prediction.predictor import Predictor
from fishnet.serve.settings import Limits
from tests import bright
from tests.bright import scene
from tests.serve.running import FORM, PREDICTORS, Answer, Client, encoded, form, running, wait_until

FORM_TYPE = FORM["Content-Type"]
PHOTO = encoded(scene(96, 64, ((8, 8, 40, 30), "red")))


class Held:
    """An engine that computes when it is let."""

    def __init__(self) -> None:
        self.go, self.is_in, self.batches = Event(), Event(), list[int]()
        self.go.set()

    def hold(self) -> None:
        """Lets the next batch wait in the engine."""
        self.go.clear()
        self.is_in.clear()

    def __call__(self, batch: Any) -> Any:
        self.is_in.set()
        assert self.go.wait(30)
        self.batches.append(len(batch))
        return bright.BrightRectangles()(batch)


@pytest.fixture
def held() -> Held:
    return Held()


def served_by(engine: Any) -> dict[str, Predictor]:
    return {"detect": Predictor(bright.bright().bundle, engine)}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    limits = Limits(max_bytes=20_000, max_pixels=100_000, max_images=3, max_passes=8, body_timeout=0.5)
    with running({"detect": PREDICTORS["detect"](), "classify": PREDICTORS["classify"]()}, limits) as client:
        yield client
        assert client.predict(PHOTO).status == 200, "the service lives on"


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("status", "code", "body", "query", "headers"),
    [
        (400, "no_image", b"", "", {}),
        (400, "no_image", form(), "", FORM),
        (400, "bad_form", b"no form", "", FORM),
        (400, "bad_form", form(PHOTO)[:-200], "", FORM),
        (400, "bad_form", form(PHOTO), "", {"Content-Type": "multipart/form-data"}),
        (400, "bad_form", form(PHOTO).replace(b'; filename="0.png"', b""), "", FORM),
        (400, "bad_form", form(PHOTO, names="\u00e9{}.png"), "", {"Content-Type": f"{FORM_TYPE}; charset=undefined"}),
        (413, "body_too_large", PHOTO + bytes(20_000), "", {}),
        (413, "body_too_large", form(PHOTO + bytes(20_000)), "", FORM),
        (413, "image_too_large", bomb(1000, 101), "", {}),
        (413, "image_too_large", bomb(60_000, 60_000), "", {}),
        (413, "too_many_images", form(PHOTO, PHOTO, PHOTO, PHOTO), "", FORM),
        (415, "unsupported_image", b"%PDF-1.4 no image", "", {}),
        (415, "unsupported_image", b"\0" * 500, "", {"Content-Type": "image/jpeg"}),
        (415, "unsupported_type", b'{"path": "/etc/passwd"}', "", {"Content-Type": "application/json"}),
        (422, "bad_image", PHOTO[:90], "", {}),
        (422, "bad_image", bomb(100, 100), "", {}),
        (422, "bad_option", PHOTO, "threshold=2", {}),
        (422, "bad_option", PHOTO, "threshold=high", {}),
        (422, "bad_option", PHOTO, "threshold=nan", {}),
        (422, "bad_option", PHOTO, "k=3", {}),
        (422, "bad_option", PHOTO, "overlap=0.5", {}),
        (422, "bad_option", PHOTO, "model=classify&threshold=0.5", {}),
        (422, "too_many_passes", PHOTO, "tile=32&overlap=0.9", {}),
        (404, "no_such_model", PHOTO, "model=../../etc", {}),
    ],
)  # fmt: skip
def test_refused(client: Client, status: int, code: str, body: bytes, query: str, headers: dict[str, str]) -> None:
    answer = client.post(f"/v1/predict?{query}", body, **headers)
    assert (answer.status, answer.code) == (status, code), answer.content


def test_a_body_that_nobody_reads(client: Client) -> None:
    """The connection is closed, so that a client cannot send for ever."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as sent:
        sent.sendall(b"POST /v1/predict?k=0 HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b"".join(iter(lambda: sent.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 422")
    assert b"connection: close" in answer.lower()


def test_the_page_is_guarded(client: Client) -> None:
    for path in ("/", "/page/index.html", "/page/page.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert [client.send("HEAD", path).status for path in ("/", "/healthz", "/readyz")] == [200] * 3


def test_other_routes(client: Client) -> None:
    assert (client.get("/v1/predict").status, client.get("/v1/predict").code) == (405, "method_not_allowed")
    assert (client.get("/nowhere").status, client.get("/nowhere").code) == (404, "not_found")
    assert client.get("/page/../app.py").status == 404
    assert client.get("/page/%2e%2e/app.py").status == 404


def test_a_body_without_a_length(client: Client) -> None:
    """Chunks are counted as they arrive: the client is answered before it has sent all."""
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2_000):
            sent += 50_000
            yield bytes(50_000)

    try:
        answer = client.post("/v1/predict", parts())
        assert (answer.status, answer.code) == (413, "body_too_large")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the connection was closed while the client still sent
    assert sent < 50_000_000, "the connection is closed"
    assert client.predict(PHOTO).status == 200


def test_names_of_files_are_only_repeated(client: Client) -> None:
    answer = client.post("/v1/predict", form(PHOTO, names="../../etc/passwd"), **FORM)
    assert answer.json["results"][0]["name"] == "../../etc/passwd"
    assert len(answer.json["results"][0]["result"]["objects"]) == 1


def test_slow_bodies(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as slow:
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nabc")
        assert client.predict(PHOTO).status == 200, "others are served meanwhile"
        answer = b"".join(iter(lambda: slow.recv(4096), b""))  # until the service closes the connection
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_body" in answer


def answers(client: Client, count: int, **headers: str) -> "list[Any]":
    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(client.predict, PHOTO, **headers) for _ in range(count)]
    pool.shutdown(wait=False)
    return futures


def test_a_full_queue(held: Held) -> None:
    with running(served_by(held), Limits(queue=3)) as client:
        held.hold()
        waiting = answers(client, 3)
        wait_until(lambda: client.service.predicting.queue.count == 3)
        refused = client.predict(PHOTO)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "queue_full", "1")
        assert client.get("/healthz").status == 200
        held.go.set()
        assert [future.result().status for future in waiting] == [200] * 3
        assert client.predict(PHOTO).status == 200
        too_many = client.predict(*[PHOTO] * 4)
        assert (too_many.status, too_many.code) == (413, "too_many_images")


def test_too_many_requests(held: Held) -> None:
    with running(served_by(held), Limits(max_requests=2)) as client:
        held.hold()
        waiting = answers(client, 2)
        wait_until(lambda: client.service.predicting.queue.count == 2)
        refused = client.predict(PHOTO)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "1")
        assert client.get("/readyz").status == 200, "probes are always answered"
        held.go.set()
        assert [future.result().status for future in waiting] == [200] * 2


def test_deadline(held: Held) -> None:
    with running(served_by(held), Limits(timeout=0.3)) as client:
        held.hold()
        answer = client.predict(PHOTO)
        assert (answer.status, answer.code) == (503, "timeout")
        client.predict(PHOTO)  # waits behind the first, which is still computed
        held.go.set()
        assert client.predict(PHOTO).status == 200
        assert client.service.predicting.queue.count == 0


def test_a_client_that_goes_away(held: Held) -> None:
    """What nobody waits for is not computed."""
    with running(served_by(held)) as client:
        held.hold()
        first = answers(client, 1)
        assert held.is_in.wait(10)
        connection = http.client.HTTPConnection("127.0.0.1", client.port)
        connection.request("POST", "/v1/predict", PHOTO)
        wait_until(lambda: client.service.predicting.queue.count == 2)
        connection.close()
        wait_until(lambda: client.service.predicting.queue.count == 1)
        before = len(held.batches)
        held.go.set()
        assert first[0].result().status == 200
        assert client.predict(PHOTO).status == 200
        assert sum(held.batches[before:]) == 2


def test_requests_share_batches(held: Held) -> None:
    with running(served_by(held), Limits(max_batch=4, max_wait_ms=0)) as client:
        held.hold()
        waiting = answers(client, 1)
        assert held.is_in.wait(10)
        waiting += answers(client, 6)
        wait_until(lambda: client.service.predicting.queue.count == 7)
        time.sleep(0.2)  # all are decoded
        before = len(held.batches)
        held.go.set()
        assert [len(future.result().json["results"][0]["result"]["objects"]) for future in waiting] == [1] * 7
        assert held.batches[before:] == [1, 4, 2]


def test_several_passes_keep_their_place_until_they_end(held: Held) -> None:
    with running(served_by(held), Limits(timeout=0.3)) as client:
        held.hold()
        assert client.predict(PHOTO, query="tile=48").status == 503
        assert client.service.predicting.queue.count == 1
        held.go.set()
        wait_until(lambda: client.service.predicting.queue.count == 0)


def test_outputs_that_are_not_finite() -> None:
    """An image with broken outputs takes no other image of the batch with it."""

    class Broken:
        def __call__(self, batch: Any) -> Any:
            outputs = bright.BrightRectangles()(batch)
            return [{**output, "scores": output["scores"] / (len(output["scores"]) != 2)} for output in outputs]

    two = encoded(scene(96, 64, ((8, 8, 40, 30), "red"), ((50, 20, 80, 60), "green")))
    with running(served_by(Broken())) as client, np.errstate(all="ignore"):
        answer = client.predict(PHOTO, two, PHOTO).json
        assert [item.get("error", {}).get("code") for item in answer["results"]] == [None, "no_result", None]
        assert client.predict(two).status == 422


def test_an_engine_that_fails() -> None:
    class Failing:
        calls = 0

        def __call__(self, batch: Any) -> Any:
            Failing.calls += 1
            if Failing.calls == 2:  # the first one warms up
                raise ValueError("a secret")
            return bright.BrightRectangles()(batch)

    with running(served_by(Failing())) as client:
        answer = client.predict(PHOTO)
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"secret" not in answer.content
        assert 'status="500"' in client.get("/metrics").content.decode()
        assert client.predict(PHOTO).status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}])
def test_token(headers: dict[str, str]) -> None:
    with running({"detect": PREDICTORS["detect"]()}, token="s3cret") as client:
        for answer in (
            client.predict(PHOTO, **headers),
            client.get("/v1/model", **headers),
            client.get("/metrics", **headers),
        ):
            assert (answer.status, answer.code) == (401, "unauthorized")
        assert [client.get(path).status for path in ("/healthz", "/readyz", "/v2/health/ready", "/")] == [200] * 4
        assert client.predict(PHOTO, Authorization="Bearer s3cret").status == 200


def test_an_error_anywhere_is_answered_and_counted() -> None:
    with running({"detect": PREDICTORS["detect"]()}) as client:

        def fail(name: str) -> Any:
            raise RuntimeError("a secret")

        with patch.object(client.service.models, "use", fail):
            answer = client.predict(PHOTO)
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"secret" not in answer.content
        assert 'fishnet_requests_total{route="/v1/predict",status="500"} 1.0' in client.get("/metrics").content.decode()


def test_images_of_a_form_that_fails_keep_their_places(held: Held) -> None:
    """Each image counts once, until nothing computes it any more."""
    with running(served_by(held), Limits(timeout=0.5)) as client:
        held.hold()
        assert client.predict(PHOTO, PHOTO, PHOTO, query="tile=48").status == 503
        assert 1 <= client.service.predicting.queue.count <= 3
        held.go.set()
        wait_until(lambda: client.service.predicting.queue.count == 0)


def test_cors() -> None:
    def allowed(client: Client, origin: str) -> Any:
        answer: Answer = client.predict(PHOTO, Origin=origin)
        return answer.headers.get("access-control-allow-origin")

    with running({"detect": PREDICTORS["detect"]()}) as client:
        assert allowed(client, "https://a.example") is None
    with running({"detect": PREDICTORS["detect"]()}, origins=("https://a.example",), token="x") as client:
        headers = {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert client.send("OPTIONS", "/v1/predict", **headers).status == 200
        assert allowed(client, "https://b.example") is None


def test_metrics(client: Client) -> None:
    client.predict(PHOTO)
    lines = client.get("/metrics").content.decode().splitlines()
    counts = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert counts['fishnet_requests_total{route="/v1/predict",status="200"}'] >= 1
    assert counts['fishnet_images_total{model="detect",outcome="ok"}'] >= 1
    assert counts["fishnet_queued_images"] == 0
    assert counts['fishnet_batch_images_count{model="detect"}'] >= 1
    stages = {"decode", "wait", "compute", "postprocess"}
    assert {
        stage for stage in stages if f'fishnet_stage_seconds_count{{model="detect",stage="{stage}"}}' in counts
    } == stages


def test_images_of_any_kind(client: Client, tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), (255, 0, 0))
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        assert client.predict(encoded(image, kind)).status == 200, kind
