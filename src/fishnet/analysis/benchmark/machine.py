"""What a measurement was made on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("fishnet-vision", "torch", "numpy", "onnxruntime", "openvino", "pytorchcv")
_VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def load() -> float:
    """The load average of the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def facts(before: float) -> dict[str, Any]:
    """Processor, cores, vector units, load averages before and now, versions, and the date (UTC)."""
    name, flags = _processor()
    return {
        "cpu": name,
        "cores": os.cpu_count() or 1,
        "vectors": ", ".join(unit for unit in _VECTORS if unit in flags) or platform.machine(),
        "system": platform.platform(),
        "load_average": [before, load()],
        "versions": {"python": platform.python_version(), **_versions()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> tuple[str, set[str]]:
    """Its name, and what it says it can do where the system is a Linux."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return name, flags
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    return name, flags


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
