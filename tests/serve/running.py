"""A service on a port of this machine, for tests; its models may be made of any engine."""

import http.client
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any
from unittest.mock import patch

import uvicorn
from PIL import Image

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.prediction.predictor import Predictor
from fishnet.serve.app import create_app
from fishnet.serve.service import Service
from fishnet.serve.settings import Limits, Settings
from tests import bright, pixelwise, several

BOUNDARY = "limit-of-parts"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
STUFF = Classes(("red ground", "green ground"), (90, 1))


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The code of an error, whose status must be that of the response."""
        error = self.json if isinstance(self.json["error"], str) else self.json["error"]
        assert error["status"] == self.status
        assert error["message"]
        return str(error["code"])


@dataclass
class Client:
    """Sends requests to a running service."""

    service: Service
    port: int

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.send("POST", path, body, **headers)

    def predict(self, *images: bytes, query: str = "", **headers: str) -> Answer:
        """One image as it is, several as a form."""
        if len(images) == 1:
            return self.post(f"/v1/predict?{query}", images[0], **headers)
        return self.post(f"/v1/predict?{query}", form(*images), **FORM, **headers)


def form(*images: bytes, names: str = "{}.png") -> bytes:
    """The body of a form with files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{names.format(i)}"\r\n\r\n'.encode()
        + image
        + b"\r\n"
        for i, image in enumerate(images)
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """An image file's bytes."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def panoptic() -> Predictor:
    """Bright rectangles are things, their colours over the rest are stuff."""
    labels = Classes(("things", *STUFF.names), (0, *STUFF.ids))
    heads = {"instances": HeadConfig("instances", bright.CLASSES), "segment": HeadConfig("segment", labels)}
    config = PanopticConfig.of(bright.CLASSES, STUFF, stuff_area=1)
    engine = several.SeveralHeads()
    return Predictor(
        Bundle("none", heads, several.preprocess(), panoptic=config),
        lambda batch, only=None: {
            "instances": several.compute("objects", batch),
            "segment": engine(batch, ["ground"])["ground"],
        },
    )


PREDICTORS = {
    "classify": lambda: several.alone("colour"),
    "detect": bright.bright,
    "instances": lambda: bright.bright(masks=True),
    "segment": pixelwise.pixelwise,
    "several": several.several,
    "panoptic": panoptic,
}


@contextmanager
def running(models: Mapping[str, Predictor | str], limits: Limits | None = None, **settings: Any) -> Iterator[Client]:
    """Serves models, each a predictor or the source of one, until the context is left."""
    from fishnet.tasks.loading import load

    def load_model(source: str, *args: Any, **kwargs: Any) -> Predictor:
        model = models.get(source.removeprefix("test:"))
        return load(source, *args, **kwargs) if not isinstance(model, Predictor) else model

    sources = {name: f"test:{name}" if isinstance(model, Predictor) else model for name, model in models.items()}
    with patch("fishnet.serve.models.load", load_model):
        app = create_app(Settings(sources, limits or Limits(), **{"device": "cpu", **settings}))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none"))
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the service did not start"
        try:
            yield Client(app.state.service, server.servers[0].sockets[0].getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive(), "the service did not stop"


def wait_until(is_so: Any, seconds: float = 30.0) -> None:
    """Waits until a function returns something true; fails after some seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
