"""The Open Inference Protocol, version 2, over HTTP, so that clients of KServe and Triton work.

https://github.com/kserve/open-inference-protocol (REST), with Triton's extension of binary data. A model has one
input, ``image``: BYTES of shape (n,), encoded image files; and one output, ``result``: BYTES of shape (n,), each
image's result as JSON. In the JSON of a request, image files are in base64.
"""

import asyncio
import binascii
import json
from base64 import b64decode
from typing import Any

from fastapi import APIRouter, Request, Response

from fishnet import __version__
from fishnet.serve.bodies import Upload, read_body
from fishnet.serve.predicting import Job
from fishnet.serve.problems import ProblemError
from fishnet.serve.routes import Served, error_responses, while_connected

INPUT, OUTPUT = "image", "result"
LENGTH = "inference-header-content-length"
_ERRORS = error_responses(error={"type": "string"})
_LENGTH_BYTES = 4  # before each element of binary data
_MAX_JSON = 4 << 20  # bytes; objects of JSON take many times their bytes in memory, and parsing stops everything else
_MAX_DIGITS = 18


_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"const": INPUT},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"const": "BYTES"},
                    "data": {"type": "array", "items": {"type": "string", "format": "byte"}},
                },
            },
        },
    },
}

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])


@router.get("")
async def server() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "fishnet", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Whether the process runs."""
    return {"live": True}


@router.get("/health/ready", responses=_ERRORS)
async def ready(service: Served) -> dict[str, bool]:
    """Whether requests are accepted."""
    service.check_ready()
    return {"ready": True}


@router.get("/models/{model}", responses=_ERRORS)
async def metadata(service: Served, model: str) -> dict[str, Any]:
    """A model's input and output."""
    served = service.models[model]
    return {
        "name": served.name, "versions": [], "platform": "fishnet",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": OUTPUT, "datatype": "BYTES", "shape": [-1]}],
    }  # fmt: skip


@router.get("/models/{model}/ready", responses=_ERRORS)
async def model_ready(service: Served, model: str) -> dict[str, Any]:
    """Whether a model accepts requests."""
    service.check_ready()
    return {"name": service.models[model].name, "ready": True}


@router.post(
    "/models/{model}/infer",
    responses=_ERRORS,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}}},
)
async def infer(request: Request, service: Served, model: str) -> Response:
    """Predict on encoded images. The request's parameters are the options of /v1/predict."""
    service.models[model]  # before the body is read
    body = await read_body(request, service.limits)
    values, images = await asyncio.to_thread(_parse, body, request.headers.get(LENGTH), service.limits.max_images)
    parameters = dict(values.get("parameters") or {})
    wants_binary = _wants_binary(values, parameters)
    with service.models.use(model) as served:
        maps = parameters.pop("maps", True)
        if not isinstance(maps, bool):
            raise _bad("maps: must be true or false")
        job = Job.of(served, parameters, maps)
        results = await while_connected(
            request, service.predicting.predict(job, [Upload("", image) for image in images])
        )
    texts = []
    for result in results:
        if isinstance(result, ProblemError):
            raise result
        texts.append(result)
    return _response(served.name, values.get("id"), texts, wants_binary)


def _integer(text: str) -> int:
    """An integer of JSON. Python takes quadratic time for those of thousands of digits."""
    if len(text) > _MAX_DIGITS:
        raise ValueError("an integer of too many digits")
    return int(text)


def _bad(message: str) -> ProblemError:
    return ProblemError(400, "bad_request", message)


def _parse(body: bytes, length: str | None, limit: int) -> tuple[dict[str, Any], list[bytes]]:
    """The JSON of a request, and its image files."""
    values, binary = _split(body, length)
    return values, _images(values, binary, limit)


def _split(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the binary data after it."""
    is_number = length is not None and length.isdecimal() and len(length) <= _MAX_DIGITS
    if length is not None and not (is_number and int(length) <= len(body)):
        raise _bad(f"{LENGTH} is not a number of bytes of this body")
    end = len(body) if length is None else int(length)
    if end > _MAX_JSON:
        raise ProblemError(
            413, "json_too_large",
            f"more than {_MAX_JSON:,} bytes of JSON: send images as binary data after it, or with /v1/predict",
        )  # fmt: skip
    try:
        values = json.loads(body[:end], parse_int=_integer)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON: see https://github.com/kserve/open-inference-protocol") from None
    if not isinstance(values, dict):
        raise _bad("the body is not a JSON object")
    if not isinstance(values.get("parameters") or {}, dict):
        raise _bad("parameters: must be an object")
    return values, body[end:]


def _images(values: dict[str, Any], binary: bytes, limit: int) -> list[bytes]:
    """The image files of a request.

    Raises:
        ProblemError: another input than the model's, data that cannot be read, no image or too many.
    """
    inputs = values.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _bad(f"inputs: must be a list of one input, {INPUT}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise _bad(f"inputs: the model's input is {INPUT}, of datatype BYTES")
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    images = _from_json(tensor.get("data")) if size is None else _from_binary(binary, size)
    if not images:
        raise _bad("data: no image")
    if tensor.get("shape") != [len(images)]:
        raise _bad(f"shape: must be [{len(images)}], the number of images in the data")
    if len(images) > limit:
        raise ProblemError(413, "too_many_images", f"{len(images)} images: send at most {limit} in a request")
    return images


def _from_json(data: Any) -> list[bytes]:
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise _bad("data: must be a list of image files in base64")
    try:
        return [b64decode(item, validate=True) for item in data]
    except (binascii.Error, ValueError):
        raise _bad("data: an item is not base64") from None


def _from_binary(binary: bytes, size: Any) -> list[bytes]:
    if type(size) is not int or size != len(binary):
        raise _bad("binary_data_size: is not the number of bytes after the JSON")
    images, at = [], 0
    while at < size:
        end = at + _LENGTH_BYTES + int.from_bytes(binary[at : at + _LENGTH_BYTES], "little")
        if at + _LENGTH_BYTES > size or end > size:
            raise _bad("the binary data ends within an image")
        images.append(binary[at + _LENGTH_BYTES : end])
        at = end
    return images


def _wants_binary(values: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Whether the output is requested as binary data. Takes the protocol's own parameters out of the options."""
    by_default = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    outputs = values.get("outputs")
    if outputs is None:
        return by_default
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise _bad(f"outputs: must be a list of one output, {OUTPUT}")
    if outputs[0].get("name") != OUTPUT:
        raise _bad(f"outputs: the model's output is {OUTPUT}")
    own = outputs[0].get("parameters") or {}
    if not isinstance(own, dict):
        raise _bad("outputs: parameters must be an object")
    return _flag(own.get("binary_data", by_default), "binary_data")


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(f"{name}: must be true or false")
    return value


def _response(model: str, id_: Any, texts: list[bytes], as_binary: bool) -> Response:
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "BYTES", "shape": [len(texts)]}
    values = {"model_name": model, **({"id": id_} if isinstance(id_, str) else {}), "outputs": [output]}
    if not as_binary:
        output["data"] = [text.decode() for text in texts]
        return Response(json.dumps(values), media_type="application/json")
    data = b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)
    output["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps(values).encode()
    return Response(head + data, media_type="application/octet-stream", headers={LENGTH: str(len(head))})
