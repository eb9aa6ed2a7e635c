"""The hub: what is pushed loads again. Downloads go over HTTP to a small hub in this process, none to the network."""

import hashlib
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

import fishnet
from fishnet.bundle import hub
from fishnet.bundle.bundle import CONFIG, WEIGHTS, Bundle, is_bundle, read_bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, WorkError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.results import Classification
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import image

huggingface_hub = pytest.importorskip("huggingface_hub")

SENT = {"config.json", "model.safetensors", "README.md", "curves.png"}
COMMIT = "5" * 40


class Handler(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses: one commit of each repository, a folder ``user/name``."""

    def __init__(self, *args: Any, store: "Store") -> None:
        self.root, self.log, self.refusal = store.root, store.log, store.refusal
        super().__init__(*args)

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.log.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(self.refusal[0])

    def do_GET(self) -> None:
        if self.path != "/api/agent-harnesses":  # which the library asks for by itself, once a day
            self.log.append(f"{self.command} {self.path}")
        words = self.path.partition("?")[0].strip("/").split("/")
        if words[:2] == ["api", "models"]:
            words = words[2:]
        folder = self.root.joinpath(*words[:2])
        if not folder.is_dir():
            return self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
        if words[3] not in ("main", COMMIT):
            return self.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        if words[2] == "tree":
            rows = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": digest(p)} for p in folder.iterdir()
            ]
            return self.answer(200, json.dumps(rows).encode())
        if words[2] == "revision":
            names = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
            return self.answer(200, json.dumps({"id": "/".join(words[:2]), "sha": COMMIT, "siblings": names}).encode())
        file = folder / words[4]
        if not file.is_file():
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        return self.answer(200, file.read_bytes(), {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT})

    def answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


class Store:
    """A hub: repositories are folders; ``log`` holds the requests, ``refusal`` the status that any push gets."""

    def __init__(self, root: Path) -> None:
        self.root, self.log, self.refusal = root, list[str](), list[int]()

    def push(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
        """Makes HfApi's calls put files into the folders; gives the list of calls."""
        calls: list[tuple[str, dict[str, Any]]] = []

        def create_repo(_: object, repo: str, **options: Any) -> str:
            calls.append(("create_repo", options))
            (self.root / repo).mkdir(parents=True, exist_ok=True)
            return f"https://hub.invalid/{repo}"

        def create_commit(_: object, repo: str, operations: list[Any], **options: Any) -> None:
            calls.append(("create_commit", options))
            for operation in operations:
                with operation.as_file() as file:
                    (self.root / repo / operation.path_in_repo).write_bytes(file.read())

        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
        monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", create_commit)
        return calls


@pytest.fixture
def point_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes an address the hub's, with an empty cache."""

    def call(address: str) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("huggingface_hub") and isinstance(
                getattr(module, "api", None), huggingface_hub.HfApi
            ):
                monkeypatch.setattr(module.api, "endpoint", address)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    return call


@pytest.fixture
def store(tmp_path: Path, point_to: Callable[[str], None]) -> Iterator[Store]:
    it = Store(tmp_path / "hub")
    it.root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, store=it))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    point_to(f"http://127.0.0.1:{server.server_port}")
    yield it
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shared(store: Store, bundle: Path) -> Store:
    """The hub with the bundle as ``me/colours``."""
    (store.root / "me/colours").mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copy(bundle / name, store.root / "me/colours")
    return store


def scores(predictor: Any) -> list[float]:
    result = predictor.predict(image("red", 1))
    assert isinstance(result, Classification)
    return [float(score) for score in result.scores]


# --- down -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf-hub:me/colours", "hf_hub:me/colours", "hf-hub:me/colours@main"])
def test_load(name: str, shared: Store, bundle: Path) -> None:
    assert scores(fishnet.load(name, "cpu")) == scores(fishnet.load(bundle, "cpu"))


def test_only_the_bundle_is_downloaded_and_only_once(shared: Store) -> None:
    (shared.root / "me/colours/pytorch_model.bin").write_bytes(b"a pickle")
    folder = hub.local_path("hf-hub:me/colours")
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert not any("pytorch_model" in line for line in shared.log)
    shared.log.clear()
    assert hub.local_path("hf-hub:me/colours") == folder
    assert not any(line.startswith("GET") and "resolve" in line for line in shared.log), "kept from the first time"


def test_what_was_downloaded_loads_without_a_network(
    shared: Store, bundle: Path, point_to: Callable[[str], None]
) -> None:
    hub.local_path("hf-hub:me/colours")
    point_to(nobody())
    assert scores(fishnet.load("hf-hub:me/colours", "cpu")) == scores(fishnet.load(bundle, "cpu"))


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert hub.local_path(tmp_path) == hub.local_path(str(tmp_path)) == tmp_path
    assert not hub.is_remote("hf-hub")


def nobody() -> str:
    """An address where no one answers."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{it.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf-hub:me/nothing", ("hf-hub:me/nothing", "no such repository", "log in")),
        ("hf-hub:me/colours@v9", ("v9", "no such revision")),
        ("hf-hub:", ("not a valid name of a repository", "user/name")),
        ("hf-hub:a/b/c", ("'a/b/c'", "user/name")),
        ("hf-hub:me/../you", ("not a valid name of a repository",)),
    ],
)
def test_names_that_lead_nowhere(name: str, words: tuple[str, ...], shared: Store, run: Run) -> None:
    says(run("predict", name, "photo.jpg"), 2, *words)


def test_no_network(point_to: Callable[[str], None], run: Run) -> None:
    point_to(nobody())
    with pytest.raises(WorkError, match="hf-hub:me/colours: the hub cannot be reached"):
        fishnet.load("hf-hub:me/colours")
    says(run("val", "hf-hub:me/colours", "data"), 1, "hf-hub:me/colours", "cannot be reached")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "not a bundle: config.json is missing there"),
        ({CONFIG: '{"architecture": "resnet18"}'}, "not a bundle: config.json: schema None is not a bundle schema"),
        ({CONFIG: "{"}, "not a bundle: config.json: damaged"),
    ],
)
def test_repositories_of_something_else(files: dict[str, str], words: str, store: Store) -> None:
    folder = store.root / "me/other"
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"large")
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(InputError, match=f"^hf-hub:me/other: {words}") as caught:
        fishnet.load("hf-hub:me/other")
    assert "\n" not in str(caught.value)
    assert not any("resolve" in line and WEIGHTS in line for line in store.log), "what is no bundle is not downloaded"


def test_weights_that_are_missing(shared: Store) -> None:
    (shared.root / "me/colours" / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"not a complete bundle: model\.safetensors is missing there"):
        fishnet.load("hf-hub:me/colours")


def test_weights_that_are_altered(shared: Store) -> None:
    path = shared.root / "me/colours" / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="altered or damaged"):
        fishnet.load("hf-hub:me/colours")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, bundle: Path, run: Run) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    says(run("predict", "hf-hub:me/colours", "a.png"), 2, "huggingface_hub", "fishnet-vision[hub]")
    says(run("push", bundle, "me/colours"), 2, "huggingface_hub", "fishnet-vision[hub]")


def test_the_verbs_take_hub_names(shared: Store, folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("predict", "hf-hub:me/colours", folder / "red/0.png", "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[0])["predictions"][0]["name"] == "red"
    code, out, _ = run("info", "hf-hub:me/colours", "--json")
    assert json.loads(out)["classes"] == ["blue", "green", "red"]
    code, out, err = run(
        "train", "classify", folder, "--weights", "hf-hub:me/colours", "--out", tmp_path / "next", *fast()
    )
    assert code == 0, err
    assert is_bundle(tmp_path / "next")
    assert "weights from hf-hub:me/colours (classify, fishnet_nano, 3 classes)" in out


# --- up -------------------------------------------------------------------------------------------------------------


def test_push_and_load_again(store: Store, bundle: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    calls = store.push(monkeypatch)
    code, out, err = run("push", bundle, "me/mine", "--private", "--message", "first", "--license", "mit")
    assert (code, err) == (0, "")
    assert "sent to https://hub.invalid/me/mine" in out
    assert calls == [
        ("create_repo", {"private": True, "exist_ok": True}),
        ("create_commit", {"commit_message": "first"}),
    ]
    assert {path.name for path in (store.root / "me/mine").iterdir()} == SENT, "no checkpoint, no log"
    assert scores(fishnet.load("hf-hub:me/mine", "cpu")) == scores(fishnet.load(bundle, "cpu"))


def test_dry_run(store: Store, bundle: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    calls = store.push(monkeypatch)
    code, out, _ = run("push", bundle, "hf-hub:me/mine", "--dry-run")
    assert code == 0
    assert calls == []
    assert store.log == []
    assert all(f"  {name} (" in out for name in SENT)
    code, text, _ = run("push", bundle, "me/mine", "--dry-run", "--json")
    values = json.loads(text)
    assert set(values["files"]) == SENT
    assert values["files"][WEIGHTS] == (bundle / WEIGHTS).stat().st_size
    assert values["card"] in out


def front(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return values


def test_the_card(bundle: Path) -> None:
    it = read_bundle(bundle)
    card = hub.prepare(bundle, "me/mine").card
    assert front(card) == {
        "library_name": "fishnet-vision",
        "pipeline_tag": "image-classification",
        "tags": ["fishnet", "pytorch", "classify", "fishnet_nano"],
        "metrics": ["accuracy"],
    }, "no licence is claimed"
    assert front(hub.prepare(bundle, "me/mine", "cc-by-4.0").card)["license"] == "cc-by-4.0"
    for words in (
        "# mine", 'fishnet.load("hf-hub:me/mine")', "pip install 'fishnet-vision[torch,hub]'", "`blue`, `green`, `red`",
        "centre crop of 32 x 32 px", "| acc@1 | ", "held out", "backbone: fishnet_nano", "![Loss",
        f"torch {it.versions['torch']}",
    ):  # fmt: skip
        assert words in card, words
    huggingface_hub.ModelCard(card)  # parses
    recipe = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert recipe == it.recipe, "could be trained with again"


@pytest.mark.parametrize(("task", "pipeline"), [("detect", "object-detection"), ("instances", "image-segmentation")])
def test_the_card_of_what_finds_objects(task: str, pipeline: str) -> None:
    it = Preprocess((64, 96), fit="whole")
    bundle = Bundle.single(task, "fishnet_nano", Classes.of(["berry"]), it, metrics={"AP": 30.5, "AP50": 51})
    card = hub.card(bundle, "me/mine")
    assert front(card)["pipeline_tag"] == pipeline
    assert "metrics" not in front(card)
    resized = "resized so that its shorter side has 64 px and its longer side at most 96 px (bilinear)"
    assert f"The whole image, {resized}" in card
    assert "crop" not in card
    assert "| AP | 30.5 |" in card


def test_a_card_of_ones_own(bundle: Path, tmp_path: Path, run: Run) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(bundle, mine)
    (mine / "README.md").write_text("---\nlicense: mit\n---\n\n# Été\n", encoding="utf-8")
    (mine / "curves.png").unlink()
    upload = hub.prepare(mine, "me/mine")
    assert upload.card == "---\nlicense: mit\n---\n\n# Été\n"
    assert set(upload.files) == SENT - {"curves.png"}
    says(run("push", mine, "me/mine", "--license", "mit"), 2, "README.md", "write the licence there")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(401, 2, "hf auth login"), (403, 2, "hf auth login"), (500, 1, "the hub refused the request (500")],
)
def test_a_hub_that_refuses(status: int, code: int, words: str, bundle: Path, store: Store, run: Run) -> None:
    store.refusal.append(status)
    says(run("push", bundle, "me/mine"), code, "me/mine", words)
    assert store.log[0] == "POST /api/repos/create"


def test_push_without_a_network(bundle: Path, point_to: Callable[[str], None], run: Run) -> None:
    point_to(nobody())
    says(run("push", bundle, "me/mine"), 1, "me/mine", "the hub cannot be reached")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{tmp}", "me/mine"), ("not a bundle",)),
        (("{bundle}", "a/b/c"), ("'a/b/c'", "user/name")),
        (("{bundle}", ""), ("not a valid name of a repository",)),
    ],
)
def test_what_cannot_be_pushed(
    arguments: tuple[str, str], words: tuple[str, ...], bundle: Path, tmp_path: Path, run: Run
) -> None:
    says(run("push", *(a.format(tmp=tmp_path, bundle=bundle) for a in arguments)), 2, *words)
