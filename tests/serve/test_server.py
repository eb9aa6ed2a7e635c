"""``fishnet serve`` as a process: start, stop, reload, workers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import fishnet
from fishnet.errors import InputError
from fishnet.serve.metrics import Metrics
from fishnet.serve.models import Models, ServedModel, named_sources, signature
from fishnet.serve.queue import Queue
from fishnet.serve.settings import Limits, Settings
from tests.conftest import Run
from tests.makers import CLASSES
from tests.serve.running import Client, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@dataclass
class Process:
    """A running command."""

    process: subprocess.Popen[bytes]
    log: Path
    client: Client

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(tmp_path: Path, *words: object, before: str = "", **environment: str) -> Iterator[Process]:
    """Runs ``fishnet serve`` until the context is left; ``before`` is code that is run in the process first."""
    log = tmp_path / "log"
    code = f"{before}\nfrom fishnet.cli import run; run()"
    command = [sys.executable, "-c", code, "serve", *map(str, words), "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream, env={**os.environ, **environment})
    try:
        address = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
        wait_until(lambda: address.search(log.read_text()) or process.poll() is not None, 120)
        found = address.search(log.read_text())
        assert found, log.read_text()
        client: Any = Client(None, int(found[1]))  # type: ignore[arg-type]
        wait_until(lambda: is_ready(client))
        yield Process(process, log, client)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def is_ready(client: Client) -> bool:
    try:
        return client.get("/readyz").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "colours.onnx"
    fishnet.export(bundle, out=path)
    return path


SLOW_ENGINE = """
import time
from fishnet.runtime.engines import RuntimeEngine
compute = RuntimeEngine.__call__
RuntimeEngine.__call__ = lambda self, *args: (time.sleep(1), compute(self, *args))[1]
"""
NO_TORCH = """
import sys
sys.modules.update(torch=None, torchvision=None, timm=None)  # importing them fails
"""


def photo_of(folder: Path, name: str = "red") -> bytes:
    return min((folder / name).iterdir()).read_bytes()


def best(client: Client, photo: bytes) -> str:
    answer = client.predict(photo)
    assert answer.status == 200, answer.content
    return str(answer.json["results"][0]["result"]["predictions"][0]["name"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_requests_end_before_the_process(
    exported: Path, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, exported, before=SLOW_ENGINE) as served, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(best, served.client, photo_of(folder, name)) for name in CLASSES]
        time.sleep(0.5)
        assert served.stop(number) == 0, served.log.read_text()
        assert [future.result(30) for future in futures] == list(CLASSES)
        assert "Traceback" not in served.log.read_text()


def test_an_exported_file_is_served_without_torch(exported: Path, folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"colours={exported}", before=NO_TORCH) as served:
        assert served.client.get("/v1/models").json == {"models": ["colours"]}
        for name in CLASSES:
            assert best(served.client, photo_of(folder, name)) == name


def test_workers_share_the_port_and_count_together(exported: Path, folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path, exported, "--workers", 2) as served:
        for _ in range(6):
            assert best(served.client, photo_of(folder)) == "red"
        text = served.client.get("/metrics").content.decode()
        assert 'fishnet_images_total{model="colours",outcome="ok"} 6.0' in text
        assert served.stop() == 0


@pytest.fixture
def two_bundles(bundle: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the bundle, and one of the same classes in another order: what was blue is called red."""
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        shutil.copytree(bundle, out)
    config = second / "config.json"
    config.write_text(config.read_text().replace('"blue"', '"x"').replace('"red"', '"blue"').replace('"x"', '"red"'))
    return first, second


@pytest.mark.parametrize("way", ["signal", "watch"])
def test_reload(two_bundles: tuple[Path, Path], folder: Path, tmp_path: Path, way: str) -> None:
    """The new model answers once its files are there; until then, and with broken files, the old one."""
    first, second = two_bundles
    watch = ("--reload-seconds", 0.2) if way == "watch" else ()
    with serving(tmp_path, first, "--device", "cpu", *watch) as served:

        def replace(text: str) -> None:
            (first / "config.json").write_text(text)
            if way == "signal":
                served.process.send_signal(signal.SIGHUP)

        assert best(served.client, photo_of(folder)) == "red"
        replace("{ broken")
        wait_until(lambda: "not reloaded" in served.log.read_text())
        assert best(served.client, photo_of(folder)) == "red"
        replace((second / "config.json").read_text())
        wait_until(lambda: best(served.client, photo_of(folder)) == "blue")
        text = served.client.get("/metrics").content.decode()
        assert 'fishnet_reloads_total{model="first",outcome="failed"} 1.0' in text
        assert 'fishnet_reloads_total{model="first",outcome="done"} 1.0' in text


def test_requests_during_reloads_are_all_answered(bundle: Path, folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path, bundle, "--device", "cpu") as served, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(best, served.client, photo_of(folder)) for _ in range(200)]
        for _ in range(3):
            served.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        assert {future.result(60) for future in futures} == {"red"}


def test_a_reload_that_fails_leaves_nothing_behind(two_bundles: tuple[Path, Path]) -> None:
    """No thread; and a copy that was completed meanwhile is loaded later."""
    first, second = two_bundles
    metrics = Metrics()
    models = Models(Settings({"first": str(first)}, device="cpu"), metrics, Queue(8, metrics))
    models.load()
    before = threading.active_count()
    with patch.object(ServedModel, "warm_up", side_effect=RuntimeError("out of memory")):
        models.reload()
        models.reload()
    wait_until(lambda: threading.active_count() == before)
    assert models.are_alive

    def complete(*args: Any, **kwargs: Any) -> Any:
        shutil.copy(second / "config.json", first / "config.json")
        raise InputError("half a file")

    with patch("fishnet.serve.models.load", complete):
        models.reload()
    time.sleep(1.1)
    models.reload(changed_only=True)
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[..., 0] = 255
    result: Any = models[""].predictor.predict(photo)
    assert result.name == "blue", "the second model's names"
    models.close(10)
    assert not models.are_alive


def test_named_sources(tmp_path: Path) -> None:
    file = tmp_path / "cells.v2.onnx"
    file.touch()
    (tmp_path / "run").mkdir()
    given = [str(file), f"second={file}", str(tmp_path / "run"), "fishnet_nano", "a=b=c"]
    assert named_sources(given) == {
        "cells.v2": str(file), "second": str(file), "run": str(tmp_path / "run"), "fishnet_nano": "fishnet_nano",
        "a": "b=c",
    }  # fmt: skip
    for wrong, words in ([], "nothing to serve"), ([str(file)] * 2, "two models"), (["a b=x"], "not a name"):
        with pytest.raises(InputError, match=words):
            named_sources(wrong)


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = Settings({"a": "b"}, Limits(queue=3, max_batch=2), token="x", origins=("https://a.example",))
    assert Settings.from_text(settings.to_text()) == settings


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "nothing to serve"),
        (["nowhere"], "nowhere"),
        (["fishnet_nano", "--queue", 0], "queue=0: must be more than 0"),
        (["fishnet_nano", "--max-mb", -1], "max_bytes"),
        (["fishnet_nano", "--port", 99999], "--port 99999"),
        (["fishnet_nano", "--workers", 0], "--workers 0"),
        (["fishnet_nano", "--token-file", "nowhere"], "nowhere: cannot be read"),
        (["fishnet_nano", "--cors", "https://a.example/"], "--cors https://a.example/"),
    ],
)
def test_wrong_usage(words: list[Any], line: str, run: Run) -> None:
    code, _, err = run("serve", *words)
    assert code == 2
    assert line in err.splitlines()[-1]
    assert "Traceback" not in err


def test_signature_of_a_model_from_elsewhere() -> None:
    assert signature("hf-hub:someone/nothing") == ()
