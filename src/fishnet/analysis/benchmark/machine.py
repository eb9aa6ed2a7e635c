"""Facts about the machine that a benchmark runs on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("fishnet-vision", "torch", "numpy", "onnxruntime", "openvino", "pytorchcv")
_VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def load() -> float:
    """Returns the load average of the last minute; 0 if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def facts(before: float) -> dict[str, Any]:
    """Returns processor, cores, vector units, load averages before and now, versions, and the date (UTC)."""
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
    """Returns the processor's name and, on Linux, its flags."""
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
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
