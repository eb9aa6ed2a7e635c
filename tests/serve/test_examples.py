"""The clients and the monitoring in examples/serving fit the service."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bright import scene
from tests.serve.running import PREDICTORS, encoded, running

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
CLIENTS = [[sys.executable, "predict.py"], ["node", "predict.mjs"]]


@pytest.mark.parametrize("command", CLIENTS, ids=["python", "javascript"])
def test_clients(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    images = [scene(96, 64, ((8, 8, 40, 30), "red")), scene(96, 64)]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encoded(image))
    monkeypatch.setenv("FISHNET_TOKEN", "s3cret")
    with running({"detect": PREDICTORS["detect"]()}, token="s3cret") as client:
        words = [*command, f"http://127.0.0.1:{client.port}"]

        def run(*more: Path) -> "subprocess.CompletedProcess[str]":
            return subprocess.run([*words, *map(str, more)], cwd=EXAMPLES, capture_output=True, text=True, check=False)

        done = run(*paths)
        assert done.returncode == 0, done.stderr
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(result["image"], len(result["objects"])) for result in results] == [
            (str(paths[0]), 1),
            (str(paths[1]), 0),
        ]
        paths[0].write_bytes(b"no image")
        failed = run(paths[0])
        assert failed.returncode == 1
        assert "not an image" in failed.stderr


def test_monitoring_uses_metrics_that_exist() -> None:
    with running({"detect": PREDICTORS["detect"]()}) as client:
        client.predict(encoded(scene(96, 64)))
        client.service.metrics.add_reload("detect", "failed")
        text = client.get("/metrics").content.decode()
    exposed = set(re.findall(r"^(fishnet_\w+)", text, re.MULTILINE))
    rules: Any = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for expression in expressions for name in re.findall(r"fishnet_\w+", expression)}
    assert len(used) >= 6
    assert used <= exposed


def test_probes_of_the_manifest_exist() -> None:
    documents = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
    container = documents[0]["spec"]["template"]["spec"]["containers"][0]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    with running({"detect": PREDICTORS["detect"]()}) as client:
        assert {client.get(path).status for path in paths} == {200}
