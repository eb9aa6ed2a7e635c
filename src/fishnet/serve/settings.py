"""The settings of a service: its models, and what it accepts."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from fishnet.errors import InputError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a service accepts. Every limit that a request exceeds is answered with a status of its own.

    Attributes:
        max_bytes: of a request's body; more: 413.
        max_pixels: of an image, checked before it is decoded; more: 413.
        max_images: of a request; more: 413.
        max_passes: through the network for one image, with tiles and averages; more: 422.
        queue: maximum number of images that are queued or in progress, of all requests; more: 429.
        max_requests: maximum number of concurrent requests, including those whose bodies still arrive; more: 503.
        timeout: seconds for a request once its body is there; longer: 503.
        body_timeout: seconds in which a body must arrive; longer: 408.
        max_batch: images of one size that are computed together; None: the model's default batch size.
        max_wait_ms: how long an image waits for others to be computed with.
        drain: seconds that running requests have to end when the service stops.
    """

    max_bytes: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_images: int = 16
    max_passes: int = 64
    queue: int = 64
    max_requests: int = 128
    timeout: float = 30.0
    body_timeout: float = 10.0
    max_batch: int | None = None
    max_wait_ms: float = 2.0
    drain: float = 20.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None:
                continue
            if value < 0 or (value == 0 and name != "max_wait_ms"):
                raise InputError(f"{name}={value}: must be {'0 or more' if name == 'max_wait_ms' else 'more than 0'}")


@dataclass(frozen=True)
class Settings:
    """The settings of a service.

    Attributes:
        models: source of each model by its name; see :func:`fishnet.tasks.loading.load`.
        limits: what is accepted.
        device, precision: that the models compute with.
        trust: whether .pt2 files are opened, which can run any code of their author.
        token: the bearer token that requests need; empty for none.
        origins: the web origins that may call the service from a browser.
        reload_seconds: how often the model files are checked for changes, s; 0 for never.
    """

    models: dict[str, str]
    limits: Limits = field(default_factory=Limits)
    device: str = "auto"
    precision: str = "auto"
    trust: bool = False
    token: str = ""
    origins: tuple[str, ...] = ()
    reload_seconds: float = 0.0

    def to_text(self) -> str:
        """JSON, for the processes of several workers."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Settings":
        """The inverse of :meth:`to_text`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "limits": Limits(**values["limits"]), "origins": tuple(values["origins"])})
