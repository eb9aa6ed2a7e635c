"""The service's own routes: predictions, models, health and metrics."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from fishnet.prediction.options import OPTIONS
from fishnet.serve.bodies import Upload, read_images
from fishnet.serve.predicting import Job
from fishnet.serve.problems import ProblemError
from fishnet.serve.service import Service

T = TypeVar("T")

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}
_STATUSES = (400, 401, 404, 405, 408, 413, 415, 422, 429, 503)


def error_responses(*statuses: int, error: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """The responses with errors, for OpenAPI.

    Args:
        *statuses: those of a route; by default all.
        error: the schema of the key ``error``; by default an object, see :meth:`ProblemError.to_dict`.
    """
    texts = {"code": {"type": "string"}, "message": {"type": "string"}}
    properties = {"status": {"type": "integer"}, **texts}
    error = error or {"type": "object", "required": list(properties), "properties": properties}
    schema = {"type": "object", "required": ["error"], "properties": {"error": error}}
    content = {"application/json": {"schema": schema}}
    return {
        status: {"description": "What is wrong, and what to do.", "content": content}
        for status in statuses or _STATUSES
    }


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine, which is cancelled if the client goes away.

    Raises:
        ClientDisconnect: the client is gone.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def predict_response(model: str, uploads: Sequence[Upload], results: Sequence[bytes | ProblemError]) -> Response:
    """The results of a request; an error's status only if there is no result."""
    failed = [result for result in results if isinstance(result, ProblemError)]
    if len(failed) == len(results):
        raise failed[0]
    items = []
    for upload, result in zip(uploads, results, strict=True):
        key, value = ("error", json.dumps(result.to_dict()).encode()) if isinstance(result, ProblemError) else (
            "result", result)  # fmt: skip
        items.append(b'{"name": %b, "%b": %b}' % (json.dumps(upload.name).encode(), key.encode(), value))
    head = json.dumps({"model": model, "failed": len(failed)}).encode()
    return Response(b'%b, "results": [%b]}' % (head[:-1], b", ".join(items)), media_type="application/json")


def service_of(request: Request) -> Service:
    """The service that a request goes to."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]
router = APIRouter()


def options_of(
    k: Annotated[int | None, Query(description=OPTIONS["k"], ge=1)] = None,
    threshold: Annotated[float | None, Query(description=OPTIONS["threshold"], ge=0, le=1)] = None,
    max_detections: Annotated[int | None, Query(description=OPTIONS["max_detections"], ge=1)] = None,
    tile: Annotated[int | None, Query(description=OPTIONS["tile"], ge=32)] = None,
    overlap: Annotated[float | None, Query(description=OPTIONS["overlap"], ge=0, le=0.9)] = None,
    tta: Annotated[bool | None, Query(description=OPTIONS["tta"])] = None,
    panoptic_score: Annotated[float | None, Query(description=OPTIONS["panoptic_score"], ge=0, le=1)] = None,
    panoptic_overlap: Annotated[float | None, Query(description=OPTIONS["panoptic_overlap"], ge=0, le=1)] = None,
    stuff_area: Annotated[int | None, Query(description=OPTIONS["stuff_area"], ge=0)] = None,
) -> dict[str, Any]:
    """The options of a prediction that a request gives."""
    options = {
        "k": k, "threshold": threshold, "max_detections": max_detections, "tile": tile, "overlap": overlap, "tta": tta,
        "panoptic_score": panoptic_score, "panoptic_overlap": panoptic_overlap, "stuff_area": stuff_area,
    }  # fmt: skip
    return {name: value for name, value in options.items() if value is not None}


@router.post("/v1/predict", tags=["predictions"], responses=error_responses(), openapi_extra=_BODY)
async def predict(
    request: Request,
    service: Served,
    options: Annotated[dict[str, Any], Depends(options_of)],
    model: Annotated[str, Query(description="Name of the model; the first one by default.")] = "",
    maps: Annotated[bool, Query(description="Whether label maps and panoptic segments come as PNG files.")] = True,
) -> Response:
    """Predict on one image or several: the bytes of an image file, or a form with files.

    The answer has an item for each image, with its `name`, and `result` or `error`. Maps are PNG files in base64: the
    id of a pixel is R + 256 G + 65536 B.
    """
    Job.of(service.models[model], options)  # before the body is read
    uploads = await read_images(request, service.limits)
    with service.models.use(model) as served:
        job = Job.of(served, options, maps)
        results = await while_connected(request, service.predicting.predict(job, uploads))
        return predict_response(served.name, uploads, results)


@router.get("/v1/models", tags=["models"], responses=error_responses())
async def models(service: Served) -> dict[str, list[str]]:
    """The names of all models. The first one is the default."""
    return {"models": service.models.names}


@router.get("/v1/model", tags=["models"], responses=error_responses())
async def describe(service: Served, model: str = "") -> dict[str, Any]:
    """What a model predicts: its heads with their classes, its options, and the limits of the service."""
    limits = service.limits
    return {
        **service.models[model].describe(),
        "limits": {name: getattr(limits, name) for name in ("max_bytes", "max_pixels", "max_images", "max_passes")},
    }


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", tags=["health"], responses=error_responses(503))
async def readyz(service: Served) -> dict[str, str]:
    """Whether requests are accepted: not while models load."""
    service.check_ready()
    return {"status": "ready"}


@router.get("/metrics", tags=["health"], response_class=Response, responses=error_responses(401))
async def metrics(service: Served) -> Response:
    """Counts and times, in Prometheus' text format."""
    text = await asyncio.to_thread(service.metrics.text)
    return Response(text, headers={"Content-Type": service.metrics.content_type})


def problem_response(problem: ProblemError, path: str) -> Response:
    """The response to a request of some path that is answered with an error.

    Below /v2 the error is a text, as the Open Inference Protocol has it.
    """
    is_inference = path.startswith("/v2/")
    content = {**problem.to_dict(), "error": problem.message} if is_inference else {"error": problem.to_dict()}
    return Response(json.dumps(content), problem.status, problem.headers, "application/json")  # ASCII: any text fits
