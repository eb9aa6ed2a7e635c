"""Memory that is freed and needed again: the allocator of glibc would return it to the system between two steps."""

import ctypes
import os
import platform

SWITCH = "FISHNET_KEEP_MEMORY"  # 0 leaves the allocator as it is
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # parameters of mallopt(3)
_KEPT = 2**31 - 1  # bytes; mallopt takes an int
_GROWTH = 2**26  # bytes
_OWN_SETTINGS = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_ARENA_MAX",
)


def keep_memory() -> bool:
    """Has this process, and those that it forks, keep freed memory: up to 2 GiB at the end of the heap.

    By default glibc maps each large block anew and unmaps it when it is freed, so that the kernel clears every page of
    every tensor in every step (see mallopt(3)). Here blocks come from the heap, which all threads share, and large ones
    of torch in pages of 2 MB where the system has them. The process holds more memory in between: also what lies below
    blocks that are still used stays with it.

    Does nothing on other systems and C libraries, with ``FISHNET_KEEP_MEMORY=0``, or where the environment already has
    settings of glibc's allocator.

    Returns:
        Whether it did so. Must come before torch's first tensor.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in _OWN_SETTINGS)
    if tuned or os.environ.get(SWITCH) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = [mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _KEPT), mallopt(_TOP_PAD, _GROWTH)]
    done.append(mallopt(_ARENA_MAX, 1))  # these settings are of the main arena: threads would get others
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first tensor
    return all(done)
