"""Requests and files at random: no answer is an internal error, and memory does not grow."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from fishnet.serve.settings import Limits
from tests.bright import scene
from tests.serve.running import PREDICTORS, Client, encoded, running

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
pytestmark = pytest.mark.slow
LIMITS = Limits(max_bytes=200_000, max_pixels=1_000_000, max_images=3, body_timeout=2)
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM")


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_requests_by_the_description() -> None:
    with running({"several": PREDICTORS["several"](), "panoptic": PREDICTORS["panoptic"]()}, LIMITS) as client:
        address = f"http://127.0.0.1:{client.port}"
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [operation.ok() for operation in schema.get_all_operations()]
        assert {operation.path for operation in operations} >= {"/v1/predict", "/v2/models/{model}/infer", "/metrics"}
        for operation in operations:

            @given(case=operation.as_strategy())
            @settings(
                max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
            )
            def check(case: Any) -> None:
                response = case.call(base_url=address, timeout=30)
                assert response.status_code < 500, (response.status_code, response.text)
                assert response.status_code in (200, 400, 401, 404, 405, 408, 413, 415, 422), response.text
                if response.status_code != 200:
                    assert response.json()["error"]

            check()
        assert client.predict(encoded(Image.new("RGB", (64, 64)))).status == 200


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file with some bytes changed, cut out, repeated, or missing at its end."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 200)]
            case _:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)))
        if len(data) < 8:
            return bytes(data)
    return bytes(data[: chance.randrange(1, len(data))] if chance.random() < 0.1 else data)


def test_files_at_random() -> None:
    chance = random.Random(0)
    image = scene(96, 64, ((8, 8, 40, 30), "red"))
    files = [encoded(image, kind) for kind in KINDS]
    with running({"detect": PREDICTORS["detect"]()}, LIMITS) as client:
        statuses = {send(client, chance, files) for _ in range(400)}
        before = resident()
        statuses |= {send(client, chance, files) for _ in range(2000)}
        grown = resident() - before
        assert statuses <= {200, 413, 415, 422}
        assert {200, 415, 422} <= statuses
        assert grown < 30e6, f"memory grew by {grown / 1e6:.0f} MB in 2,000 requests"
        assert client.predict(files[0]).status == 200


def send(client: Client, chance: random.Random, files: list[bytes]) -> int:
    answer = client.predict(mutated(chance.choice(files), chance))
    assert answer.status < 500, answer.content
    return answer.status
