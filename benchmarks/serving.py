"""How fast and how steadily ``fishnet serve`` answers, on this machine alone: clients and service share its cores.

    apt-get install apache2-utils                        # ab, a client that costs little
    python benchmarks/serving.py MODEL.onnx PHOTO.jpg OUT                     # load, by number of clients
    python benchmarks/serving.py MODEL.onnx PHOTO.jpg OUT --others PYTHON     # and LitServe and BentoML
    python benchmarks/serving.py MODEL.onnx PHOTO.jpg OUT --memory 20000      # memory over so many requests
    python benchmarks/serving.py --table OUT/serving.csv

Each row of OUT/serving.csv is one load: a server, whether it batches, a number of clients; ``--seconds`` long or
``--requests`` many, whichever ends first, after a tenth as a warm-up. The clients send the same photo without pause.
``engine`` and ``predict`` are the rates that are possible without a server: batches of the model's size through the
engine, from prepared inputs and from the photo's bytes.

PYTHON is an interpreter with ``fishnet-vision[onnx,serve]``, litserve and bentoml. Both serve the same file through the
same Predictor, with the same batch size and waiting time, in one worker.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runs import CONDITIONS, append, conditions, rows_of

import fishnet

CLIENTS = (1, 4, 16)
PORT = 8765
FIELD = {"fishnet": "image", "litserve": "image", "bentoml": "images"}
PATHS = {"fishnet": "/v1/predict", "litserve": "/predict", "bentoml": "/predict"}
COLUMNS = (
    "server", "batching", "clients", "requests", "failed", "requests_per_second", "p50_ms", "p95_ms", "p99_ms",
    "engine_per_second", "predict_per_second", "memory_mb", "model", *CONDITIONS,
)  # fmt: skip
LITSERVE = """
import sys
import litserve as ls
import fishnet
from fastapi import Request

class Api(ls.LitAPI):
    def setup(self, device):
        self.predictor = fishnet.load(sys.argv[1], "cpu")
    def decode_request(self, request: Request):
        return request["image"].file.read()
    def batch(self, inputs):
        return list(inputs)
    def unbatch(self, output):
        return output
    def predict(self, images):
        if isinstance(images, bytes):
            return self.predictor.predict(images)
        return self.predictor.predict(list(images))
    def encode_response(self, output):
        return output.to_dict()

if __name__ == "__main__":
    size, port = int(sys.argv[2]), int(sys.argv[3])
    api = Api(max_batch_size=size, batch_timeout=0.002)
    ls.LitServer(api, accelerator="cpu", workers_per_device=1).run(port=port, generate_client_file=False)
"""
BENTOML = """
import os
from pathlib import Path
import bentoml
import fishnet

@bentoml.service(workers=1, traffic={"timeout": 60})
class Serve:
    def __init__(self):
        self.predictor = fishnet.load(os.environ["MODEL"], "cpu")

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["SIZE"]), max_latency_ms=60000)
    def predict(self, images: list[Path]) -> list[dict]:
        results = self.predictor.predict([Path(image).read_bytes() for image in images])
        return [result.to_dict() for result in results]
"""


@contextmanager
def server(name: str, args: argparse.Namespace, batch: int) -> Iterator[int]:
    """Starts a server; its process id, once it answers."""
    model, environment = str(args.model.resolve()), dict(os.environ)
    if name == "fishnet":
        command = [
            sys.executable, "-m", "fishnet", "serve", model, "--port", PORT, "--quiet", "--max-batch", batch,
        ]  # fmt: skip
    elif name == "litserve":
        (args.out / "litserve_app.py").write_text(LITSERVE)
        command = [args.others, "litserve_app.py", model, batch, PORT]
    else:
        (args.out / "bentoml_app.py").write_text(BENTOML)
        command = [args.others, "-m", "bentoml", "serve", "bentoml_app:Serve", "--port", PORT]
        environment.update(MODEL=model, SIZE=str(batch), BENTOML_DO_NOT_TRACK="1")
    with (args.out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=args.out, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(process, args.out / f"{name}.log")
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until anything answers on the port."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended: see {log}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/openapi.json", timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
            continue
        return
    raise SystemExit(f"the server did not start: see {log}")


def load(name: str, args: argparse.Namespace, clients: int, requests: int, seconds: int) -> dict[str, Any]:
    """Sends requests without pause; what ab says."""
    body, kind = args.photo, "image/jpeg"
    if name != "fishnet":
        body, kind = args.out / f"{name}.form", "multipart/form-data; boundary=limit"
        head = f'--limit\r\nContent-Disposition: form-data; name="{FIELD[name]}"; filename="photo.jpg"\r\n'
        head += "Content-Type: image/jpeg\r\n\r\n"
        body.write_bytes(head.encode() + args.photo.read_bytes() + b"\r\n--limit--\r\n")
    # -t sets a number of requests too, which -n after it replaces
    command = [
        "ab", "-q", "-k", "-l", "-t", seconds, "-n", requests, "-c", clients, "-s", 60, "-p", body, "-T", kind,
        f"http://127.0.0.1:{PORT}{PATHS[name]}",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ab: {done.stderr.strip()}")
    text = done.stdout
    rate = number(text, r"Requests per second:\s+([\d.]+)")
    percentiles = dict(re.findall(r"^\s+(50|95|99)%\s+(\d+)", text, re.MULTILINE))
    refused = re.search(r"Non-2xx responses:\s+(\d+)", text)
    return {
        "requests": int(number(text, r"Complete requests:\s+(\d+)")),
        "failed": int(number(text, r"Failed requests:\s+(\d+)")) + int(refused[1] if refused else 0),
        "requests_per_second": f"{rate:.1f}",
        **{f"p{percent}_ms": percentiles.get(percent, "") for percent in ("50", "95", "99")},
    }


def number(text: str, pattern: str) -> float:
    """The number after some words."""
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"ab: no {pattern} in its output:\n{text}")
    return float(found[1])


def memory_of(pid: int) -> int:
    """MiB of a process and its children in memory."""
    pids, pages = [pid], 0
    for each in pids:
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
            for task in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def own_rates(args: argparse.Namespace) -> dict[str, str]:
    """Images a second without a server: the engine alone, and predictions from the photo's bytes."""
    predictor = fishnet.load(args.model, "cpu")
    photo = args.photo.read_bytes()
    inputs = [predictor.preprocess(photo)] * predictor.batch_size
    photos = [photo] * predictor.batch_size
    rates = {}
    for name, run in (("engine", lambda: predictor.compute(inputs)), ("predict", lambda: predictor.predict(photos))):
        run()
        start, batches = time.perf_counter(), 0
        while time.perf_counter() - start < args.seconds / 2:
            run()
            batches += 1
        rates[f"{name}_per_second"] = f"{batches * len(inputs) / (time.perf_counter() - start):.1f}"
    return rates


def measure(args: argparse.Namespace, file: Path) -> None:
    """Appends a row for each load that has none."""
    rates = own_rates(args)
    usual = fishnet.load(args.model, "cpu").batch_size
    others = ("litserve", "bentoml") if args.others else ()
    cases = [("fishnet", "on"), ("fishnet", "off"), *((name, "on") for name in others)]
    for name, batching in cases:
        with server(name, args, usual if batching == "on" else 1) as pid:
            for clients in args.clients:
                load(name, args, clients, args.requests, max(1, args.seconds // 10))
                row = load(name, args, clients, args.requests, args.seconds)
                append(
                    file,
                    {
                        "server": name, "batching": batching, "clients": clients, **row, **rates,
                        "memory_mb": memory_of(pid), "model": args.model.stem, **conditions("cpu"),
                    },
                    COLUMNS,
                )  # fmt: skip
                print(f"{name}, batching {batching}, {clients} clients: {row}", flush=True)


def measure_memory(args: argparse.Namespace) -> None:
    """Prints the memory of the service after a tenth, and after each further tenth, of many requests."""
    with server("fishnet", args, fishnet.load(args.model, "cpu").batch_size) as pid:
        for part in range(1, 11):
            row = load("fishnet", args, 8, args.memory // 10, 3600)
            print(f"{part * args.memory // 10:,} requests, {row['failed']} failed: {memory_of(pid)} MiB", flush=True)


def table(rows: list[dict[str, str]]) -> str:
    """The loads, with the share of what the engine and predict can do without a server."""
    lines = [
        "| model | server | batching | clients | requests/s | share of engine | predict | p50 | p95 | p99, ms | MiB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate = float(row["requests_per_second"])
        shares = [f"{100 * rate / float(row[f'{name}_per_second']):.0f} %" for name in ("engine", "predict")]
        failed = f" ({row['failed']} failed)" if row["failed"] != "0" else ""
        lines.append(
            f"| {row['model']} | {row['server']} | {row['batching']} | {row['clients']} | {rate:.1f}{failed} "
            f"| {' | '.join(shares)} | {row['p50_ms']} | {row['p95_ms']} | {row['p99_ms']} | {row['memory_mb']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", help="an exported .onnx file")
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--requests", type=int, default=100_000, help="at most so many in a load")
    parser.add_argument("--seconds", type=int, default=20, help="at most so long a load")
    parser.add_argument("--others", default="", help="an interpreter with litserve and bentoml")
    parser.add_argument("--memory", type=int, default=0, help="only measure memory, over so many requests")
    parser.add_argument("--table", type=Path, help="print the table of a CSV file, and measure nothing")
    args = parser.parse_args()
    if args.table:
        print(table(rows_of(args.table, {})))
        return
    if args.model is None or args.photo is None or args.out is None:
        parser.error("give a model, a photo and a folder")
    args.model, args.photo, args.out = (path.resolve() for path in (args.model, args.photo, args.out))
    args.out.mkdir(parents=True, exist_ok=True)
    if args.memory:
        measure_memory(args)
        return
    measure(args, args.out / "serving.csv")
    print(table(rows_of(args.out / "serving.csv", {})))


if __name__ == "__main__":
    main()
