"""Reads the bodies of requests within limits: the images of a prediction, as raw bytes or as a form."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fishnet.serve.problems import ProblemError
from fishnet.serve.settings import Limits


@dataclass(frozen=True)
class Upload:
    """An image file that a client sent.

    Attributes:
        name: that the client gave it; empty for raw bytes.
        content: the file's bytes.
    """

    name: str
    content: bytes


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        ProblemError: too many bytes, or they arrive too slowly.
        ClientDisconnect: the client is gone.
    """
    return b"".join([chunk async for chunk in _chunks(request, limits)])


async def read_images(request: Request, limits: Limits) -> list[Upload]:
    """The images of a request: the body, or each file of a form (``multipart/form-data``).

    Raises:
        ProblemError: no image, too many images, a form that cannot be read, or as for :func:`read_body`.
        ClientDisconnect: the client is gone.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_form(request, limits)
    if media_type in ("application/json", "text/plain", "text/html"):
        raise ProblemError(
            415,
            "unsupported_type",
            f"{media_type}: send the bytes of an image file, or a form with files (multipart/form-data)",
        )
    content = await read_body(request, limits)
    if not content:
        raise ProblemError(400, "no_image", "an empty body: send the bytes of an image file, or a form with files")
    return [Upload("", content)]


class _WholeForms(MultiPartParser):
    """Knows whether a form has come to its end; the parser alone drops a file that is cut off."""

    is_complete = False

    def on_end(self) -> None:
        """The last boundary was read."""
        self.is_complete = True


async def _read_form(request: Request, limits: Limits) -> list[Upload]:
    parser = _WholeForms(
        request.headers, _chunks(request, limits), max_files=limits.max_images, max_fields=0, max_part_size=0
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise ProblemError(
                413, "too_many_images", f"more than {limits.max_images} images: send them in several requests"
            ) from None
        if "Too many fields" in error.message:
            raise ProblemError(
                400, "bad_form", "a field without a file name: send only files, and options in the query string"
            ) from None
        raise ProblemError(400, "bad_form", f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError):  # no boundary, or a charset that does not exist
        raise ProblemError(400, "bad_form", "the form cannot be read: its Content-Type is wrong") from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        uploads = [Upload(file.filename or "", await file.read()) for file in files]
    finally:
        await form.close()
    if not parser.is_complete:
        raise ProblemError(400, "bad_form", "the form is cut off: its last boundary is missing")
    if not uploads:
        raise ProblemError(400, "no_image", "a form without files: add image files")
    return uploads


async def _chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The parts of a body as they arrive.

    Raises:
        ProblemError: too many bytes, or they arrive too slowly.
    """
    too_large = ProblemError(
        413, "body_too_large", f"more than {limits.max_bytes:,} bytes: send smaller images, or fewer in a request"
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    received = 0
    stream = request.stream()
    deadline = asyncio.get_running_loop().time() + limits.body_timeout
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise ProblemError(
                408, "slow_body", f"the body did not arrive within {limits.body_timeout:g} s: send it faster"
            ) from None
        if chunk is None:
            return
        received += len(chunk)
        if received > limits.max_bytes:
            raise too_large
        yield chunk
