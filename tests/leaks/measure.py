"""What a process holds: resident memory, blocks of Python's and bytes of the C library's allocator, descriptors."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
#: Rounds before the first look, as a share of those between the two looks, and at least.
WARM_UP, FEWEST = 0.2, 200
#: By how much more may be held at the end. (The kernel counts pages for each CPU, and adds up now and then. The
#: blocks are what caches of the interpreter hold; the bytes, what a table of its own may have grown by.)
MARGINS = {"memory": 1024 * 1024, "blocks": 100, "bytes": 16 * 1024, "descriptors": 0}


class Info(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = [("counts", ctypes.c_size_t * 10)]


mallinfo2: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)  # of glibc, from 2.33 on
if mallinfo2 is not None:
    mallinfo2.restype = Info


def held() -> dict[str, int]:
    """What is held now, garbage apart."""
    gc.collect()
    found = {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
    if mallinfo2 is not None:
        counts = mallinfo2().counts
        found["bytes"] = counts[4] + counts[7]  # in small pieces, and in those with pages of their own
    return found


def measure(step: Callable[[], Any], rounds: int) -> dict[str, dict[str, int]]:
    """Take so many steps; return what was held before and after, and what has grown too much."""
    for _ in range(max(int(rounds * WARM_UP), FEWEST)):
        step()
    held()  # the first look leaves something behind
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
