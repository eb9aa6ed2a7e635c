"""Freed memory stays with the process, so that the next step need not ask the system for it again."""

import os
import platform
import subprocess
import sys

import pytest

from fishnet.runtime.memory import SWITCH

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")

# Blocks above the size from which glibc maps each anew (at most 32 MiB, mallopt(3)), written to and freed.
PROGRAM = """
import ctypes, resource, threading
from pathlib import Path
from fishnet.runtime.memory import keep_memory

kept = keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
SIZE = 100 * 2**20

def use():
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)

thread = threading.Thread(target=use)  # would have a part of the heap of its own
thread.start() if {in_thread} else use()
thread.join() if {in_thread} else None
resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
print(int(kept), int(resident > SIZE))
"""


def printed(in_thread: bool = False, **environment: str) -> str:
    """What the program prints: whether it took effect, and whether the freed block is still there."""
    program = PROGRAM.replace("{in_thread}", str(in_thread))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", SWITCH))}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("in_thread", [False, True])
def test_kept(in_thread: bool) -> None:
    assert printed(in_thread) == "1 1"


def test_switched_off() -> None:
    assert printed(**{SWITCH: "0"}) == "0 0"


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")]
)
def test_settings_of_the_user_stay(name: str, value: str) -> None:
    assert printed(**{name: value}) == "0 0"


def test_the_command_keeps_memory() -> None:
    """In the process of the command: importing the package alone changes nothing."""
    code = (
        "import os, sys, fishnet.cli.app as app\n"
        "assert 'THP_MEM_ALLOC_ENABLE' not in os.environ\n"
        "sys.setprofile(lambda *_: None)\n"  # so that it ends with SystemExit
        "try:\n    app.run(['--version'])\n"
        "except SystemExit as end:\n    print(end.code, os.environ.get('THP_MEM_ALLOC_ENABLE'))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", SWITCH))}
    clean.pop("THP_MEM_ALLOC_ENABLE", None)
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 1"
