"""The errors of the service: an HTTP status, a code for programs, and a line that says what to do."""

from typing import Any

from fishnet.errors import InputError, WorkError
from fishnet.images.opening import TooLargeError, UnknownImageError


class ProblemError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        code: for programs, such as ``queue_full``.
        message: for people: what is wrong, and what to do.
        retry_after: seconds after which a client may try again; None if the same request would fail again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The response's own headers."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def to_dict(self) -> dict[str, Any]:
        """``{"status", "code", "message"}``."""
        return {"status": self.status, "code": self.code, "message": self.message}


def internal_error(error: Exception) -> ProblemError:
    """The answer to an unexpected error. Its text is only logged: it may hold what clients should not see."""
    return ProblemError(500, "internal_error", f"an error in the service ({type(error).__name__}): see its log")


def problem_of(error: Exception, max_pixels: int) -> ProblemError:
    """The answer to an error of a prediction.

    Args:
        error: an InputError or a WorkError.
        max_pixels: of the service's limits, for the message.
    """
    text = str(error).removeprefix("the image: ")
    if isinstance(error, TooLargeError):
        return ProblemError(413, "image_too_large", f"the image has more than {max_pixels:,} px: send a smaller one")
    if isinstance(error, UnknownImageError):
        return ProblemError(415, "unsupported_image", f"{text}: send a JPEG, PNG, TIFF or WebP file")
    if isinstance(error, InputError):
        return ProblemError(422, "bad_image", text)
    if isinstance(error, WorkError):
        return ProblemError(422, "no_result", text)
    raise error
