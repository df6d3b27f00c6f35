"""Measure the process: resident memory, blocks of Python's allocator, bytes of malloc(), open descriptors; on a debug
build of Python also all references."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
#: Rounds before the first measurement: this share of the measured rounds, and at least so many.
WARM_UP, FEWEST = 0.2, 200
#: Growth that is no leak. (Memory: the kernel counts pages for each CPU, and adds them up now and then. Blocks: caches
#: of the interpreter. Bytes: growth of a table of the interpreter. References: less than one in each round.)
MARGINS = {"memory": 1024 * 1024, "blocks": 100, "bytes": 16 * 1024, "descriptors": 0, "references": 100}
#: Caches of the interpreter keep the names of attributes, at random places.
clear_caches = sys._clear_internal_caches if sys.version_info >= (3, 13) else sys._clear_type_cache


class Info(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = [("counts", ctypes.c_size_t * 10)]


mallinfo2: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)  # glibc 2.33 and newer
if mallinfo2 is not None:
    mallinfo2.restype = Info


def held() -> dict[str, int]:
    """Collect garbage, empty the interpreter's caches, and return the current use."""
    gc.collect()
    clear_caches()
    found = {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
    if mallinfo2 is not None:
        counts = mallinfo2().counts
        found["bytes"] = counts[4] + counts[7]  # small allocations, and those by mmap()
    if hasattr(sys, "gettotalrefcount"):
        found["references"] = sys.gettotalrefcount()
    return found


def measure(step: Callable[[], Any], rounds: int) -> dict[str, dict[str, int]]:
    """Make so many rounds; return the use before and after, its growth, and the part above the margins.

    The first rounds are not measured.
    """
    for _ in range(max(int(rounds * WARM_UP), FEWEST)):
        step()
    held()  # the first measurement allocates memory itself
    before = held()
    for _ in range(rounds):
        step()
    after = held()
    grown = {name: after[name] - before[name] for name in before}
    return {
        "before": before,
        "after": after,
        "grown": grown,
        "leaked": {name: amount for name, amount in grown.items() if amount > MARGINS[name]},
    }
