"""The Open Inference Protocol v2, by Triton's own client and by hand."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fishnet.serve.settings import Limits
from tests.bright import scene
from tests.serve.running import PREDICTORS, Client, encoded, running
from tests.serve.test_predict import IMAGES, check

http = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
FILES = list(map(encoded, IMAGES))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    models = {name: PREDICTORS[name]() for name in ("detect", "several")}
    with running(models, Limits(max_images=4)) as client:
        yield client


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["detect", "several"])
def test_tritonclient(client: Client, model: str, binary: bool) -> None:
    triton = http.InferenceServerClient(f"127.0.0.1:{client.port}")
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(model)
    assert triton.get_server_metadata()["name"] == "fishnet"
    metadata = triton.get_model_metadata(model)
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    tensor = http.InferInput("image", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(FILES, object))
    outputs = [http.InferRequestedOutput("result", binary_data=binary)]
    answer = triton.infer(model, [tensor], outputs=outputs, request_id="7", parameters={"threshold": 0.3})
    assert answer.get_response()["id"] == "7"
    predictor = PREDICTORS[model]()
    for text, image in zip(answer.as_numpy("result"), IMAGES, strict=True):
        check(json.loads(text), predictor.predict(image, threshold=0.3))
    with pytest.raises(Exception, match="no model 'cats'"):
        triton.infer("cats", [tensor])


def request(*images: bytes, **more: Any) -> dict[str, Any]:
    data = [b64encode(image).decode() for image in images]
    return {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}], **more}


def test_any_text_may_be_an_id(client: Client) -> None:
    answer = client.post("/v2/models/detect/infer", json.dumps(request(FILES[0], id="\ud800")))
    assert (answer.status, answer.json["id"]) == (200, "\ud800")


def test_json_alone(client: Client) -> None:
    answer = client.post("/v2/models/detect/infer", json.dumps(request(*FILES, parameters={"max_detections": 1})))
    assert answer.status == 200
    output = answer.json["outputs"][0]
    assert output["shape"] == [3]
    assert [len(json.loads(text)["objects"]) for text in output["data"]] == [1, 1, 1]


def changed(**values: Any) -> dict[str, Any]:
    whole = request(FILES[0])
    return {"inputs": [{**whole["inputs"][0], **values}]}


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (400, "bad_request", "no json"),
        (400, "bad_request", "[" * 100_000),
        (400, "bad_request", "[]"),
        (400, "bad_request", {}),
        (400, "bad_request", {"inputs": [3]}),
        (400, "bad_request", request(FILES[0], parameters=[1])),
        (400, "bad_request", request(FILES[0], outputs=[{"name": "boxes"}])),
        (400, "bad_request", request(FILES[0], outputs=["result"])),
        (400, "bad_request", changed(name="photo")),
        (400, "bad_request", changed(datatype="FP32")),
        (400, "bad_request", changed(data=["!"])),
        (400, "bad_request", changed(data=[3])),
        (400, "bad_request", changed(shape=[2])),
        (400, "bad_request", changed(shape=[-1])),
        (400, "bad_request", changed(shape=["1"])),
        (400, "bad_request", changed(shape=[1, 1])),
        (400, "bad_request", f'{{"inputs": [{{"shape": [{"9" * 5000}]}}]}}'),
        (400, "bad_request", request(FILES[0], parameters={"maps": "false"})),
        (400, "bad_request", request(FILES[0], parameters={"binary_data_output": "no"})),
        (413, "json_too_large", '{"a": "' + "x" * (5 << 20) + '"}'),
        (422, "bad_option", request(FILES[0], parameters={"\ud800": 1})),
        (400, "bad_request", changed(shape=None)),
        (400, "bad_request", changed(parameters={"binary_data_size": 3})),
        (400, "bad_request", changed(parameters={"binary_data_size": "0"})),
        (413, "too_many_images", request(*FILES, *FILES)),
        (400, "bad_request", request()),
        (415, "unsupported_image", request(b"no image")),
        (422, "bad_image", request(FILES[0][:80])),
        (422, "bad_option", request(FILES[0], parameters={"k": 2})),
        (422, "bad_option", request(FILES[0], parameters={"threshold": "high"})),
        (422, "bad_option", request(FILES[0], parameters={"threshold": float("nan")})),
    ],
)
def test_refused(client: Client, status: int, code: str, body: Any) -> None:
    answer = client.post("/v2/models/detect/infer", body if isinstance(body, str) else json.dumps(body))
    assert (answer.status, answer.code) == (status, code), answer.content


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "9" * 5000])
def test_a_header_that_lies(client: Client, length: str) -> None:
    answer = client.post(
        "/v2/models/detect/infer", json.dumps(request(FILES[0])), **{"Inference-Header-Content-Length": length}
    )
    assert (answer.status, answer.code) == (400, "bad_request")


@pytest.mark.parametrize("cut", [2, 6])
def test_binary_data_that_ends_early(client: Client, cut: int) -> None:
    data = (9).to_bytes(4, "little") + b"short"
    head = json.dumps(changed(data=None, parameters={"binary_data_size": cut})).encode()
    answer = client.post(
        "/v2/models/detect/infer", head + data[:cut], **{"Inference-Header-Content-Length": str(len(head))}
    )
    assert (answer.status, answer.code) == (400, "bad_request")


def test_a_scene_that_differs_by_size(client: Client) -> None:
    """Images of any sizes in one request."""
    images = [scene(64 + 32 * i, 64, ((4, 4, 20, 20), "red")) for i in range(4)]
    answer = client.post("/v2/models/detect/infer", json.dumps(request(*map(encoded, images))))
    sizes = [json.loads(text)["size"] for text in answer.json["outputs"][0]["data"]]
    assert sizes == [[64, 64 + 32 * i] for i in range(4)]
