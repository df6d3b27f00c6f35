"""Measure the process: resident memory, blocks of Python's allocator, bytes of malloc(), open descriptors; on a debug
build of Python also all references."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
#: Rounds before the first measurement: this share of the measured rounds, and at least so many, if a case has no other
#: number.
WARM_UP, FEWEST = 0.2, 1000
#: Growth that is no leak. (Memory: the kernel counts pages for each CPU, and adds them up now and then. Blocks: caches
#: of the interpreter, and 24 of the measurement; less than one in each round. Bytes: growth of a table of the
#: interpreter. References: less than one in each round.)
MARGINS = {"memory": 1024 * 1024, "blocks": 150, "bytes": 16 * 1024, "descriptors": 0, "references": 100}


class Info(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = [("counts", ctypes.c_size_t * 10)]


mallinfo2: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)  # glibc 2.33 and newer
if mallinfo2 is not None:
    mallinfo2.restype = Info


def held() -> dict[str, int]:
    """Collect garbage; return the current use."""
    gc.collect()
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


def measure(step: Callable[[], Any], rounds: int, fewest: int) -> dict[str, dict[str, int]]:
    """Make so many rounds; return the use before and after, its growth, and what has leaked.

    A leak grows in each quarter of the rounds; a cache of the interpreter may grow in one. So four times the smallest
    growth of a quarter is compared with the margins. The first rounds, at least the fewest, are not measured.
    """
    for _ in range(max(int(rounds * WARM_UP), fewest)):
        step()
    held()  # the first measurement allocates memory itself
    uses = [held()]
    for _ in range(4):
        for _ in range(max(rounds // 4, 1)):
            step()
        uses.append(held())
    before, after = uses[0], uses[-1]
    grown = {name: after[name] - before[name] for name in before}
    steady = {name: 4 * min(later[name] - earlier[name] for earlier, later in pairwise(uses)) for name in before}
    steady["descriptors"] = grown["descriptors"]  # no cache has any
    return {
        "before": before,
        "after": after,
        "grown": grown,
        "leaked": {name: amount for name, amount in steady.items() if amount > MARGINS[name]},
    }
