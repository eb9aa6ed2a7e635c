"""The precision that models compute in: what may be requested, and what a library of exported files can do."""

from typing import Any, Literal, get_args

from fishnet.errors import InputError, nearest

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def check_precision(precision: str) -> None:
    """Raises InputError for a precision that does not exist."""
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r}: {nearest(precision, PRECISIONS)}")


def fallback_line(requested: str, used: str) -> str | None:
    """What to tell the user whose machine cannot compute in the requested precision; None if it can."""
    if requested in ("auto", used):
        return None
    return f"precision={requested}: this machine does not compute in {requested} natively, so {used} is used"


def openvino_precision(precision: str, core: Any) -> str:
    """``fp32`` or ``bf16`` for an OpenVINO file: by default fp32, which OpenVINO itself would replace by bf16.

    Args:
        precision: what was requested.
        core: OpenVINO's ``Core``.

    Raises:
        InputError: fp16, which OpenVINO does not compute in on CPUs.
    """
    check_precision(precision)
    if precision == "fp16":
        raise InputError("precision=fp16: OpenVINO files compute in fp32 or bf16 on the CPU")
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if precision == "bf16" and has_bf16 else "fp32"


def check_fixed_precision(precision: str, library: str) -> None:
    """Raises InputError for a precision other than fp32 that a library would not compute in."""
    check_precision(precision)
    if precision not in ("auto", "fp32"):
        raise InputError(
            f"precision={precision}: {library} computes this file as it was written: load the bundle, or an OpenVINO "
            "file (fishnet export --to openvino)"
        )
