"""Measure the memory of a registration, without the kernel's: ``python -m benchmarks.memory``.

Each figure comes from a fresh process. It opens socket pairs, reads its memory usage, registers both ends of all pairs,
and reads it again while it holds the result of a second select(): for reading, with nothing ready, or for writing, with
everything ready. Allocated memory is malloc()'s own account, with Python's allocator disabled; resident memory, with
Python's defaults, is what is backed by pages.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastmux

from . import child_process, machine

SIZES = (100, 1000, 9000)
CANDIDATES: dict[str, Callable[[], Any]] = {
    "selectors.EpollSelector": selectors.EpollSelector,
    "fastmux.selectors.EpollSelector": fastmux.selectors.EpollSelector,
    "fastmux.Poller, epoll": fastmux.Poller,
    "selectors.PollSelector": selectors.PollSelector,
    "fastmux.selectors.PollSelector": fastmux.selectors.PollSelector,
    "fastmux.Poller, poll": lambda: fastmux.Poller("poll"),
}
#: Below this many registrations, the resident set is too coarse.
MIN_RESIDENT = 1000


class Row(NamedTuple):
    """Bytes per registration."""

    candidate: str
    size: int  # registrations
    ready: bool  # all of them; the result of select() is held
    allocated: float
    resident: float | None


class MallInfo2(ctypes.Structure):
    """struct mallinfo2, glibc 2.33 and later."""

    _fields_ = [("counts", ctypes.c_size_t * 10)]


def memory_usage() -> dict[str, int]:
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo2
    counts = mallinfo2().counts
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"allocated": counts[4] + counts[7], "resident": pages * os.sysconf("SC_PAGE_SIZE")}


def growth(candidate: str, size: int, ready: bool) -> dict[str, float]:
    """Return the additional memory of this process per registration."""
    machine.raise_descriptor_limit()
    sockets = [end for _ in range(size // 2) for end in socket.socketpair()]
    selector = CANDIDATES[candidate]()
    reading, writing = selectors.EVENT_READ, selectors.EVENT_WRITE
    if isinstance(selector, fastmux.Poller):
        reading, writing = fastmux.READ, fastmux.WRITE
    selector.register(sockets[0], reading)  # warm-up
    selector.select(0)
    selector.unregister(sockets[0])
    memory_usage()
    before = memory_usage()
    for end in sockets:
        selector.register(end, writing if ready else reading)
    selector.select(0)
    result = selector.select(0)
    after = memory_usage()
    if len(result) != (size if ready else 0):
        raise AssertionError(f"{len(result)} of {size} are ready")
    return {name: (after[name] - before[name]) / size for name in before}


def rows(sizes: Sequence[int] = SIZES) -> list[Row]:
    """Measure all candidates, each in its own processes."""
    measured = []
    for size in sizes:
        for ready in (False, True):
            for candidate in CANDIDATES:
                command = [sys.executable, "-m", f"{__package__}.memory", json.dumps([candidate, size, ready])]
                exact = json.loads(child_process.run(["env", "PYTHONMALLOC=malloc", *command]))
                resident = json.loads(child_process.run(command))["resident"] if size >= MIN_RESIDENT else None
                measured.append(Row(candidate, size, ready, exact["allocated"], resident))
    return measured


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(growth(*json.loads(sys.argv[1]))))
        return
    machine.raise_descriptor_limit()
    sizes = [size for size in SIZES if not machine.missing_descriptors(size)]
    print(f"{machine.title(machine.describe())}; bytes per registration")
    for row in rows(sizes):
        ready = "all ready" if row.ready else "idle"
        resident = "" if row.resident is None else f"{row.resident:6.0f} resident"
        print(f"{row.candidate:32} {row.size:6,} {ready:10} {row.allocated:6.0f} allocated {resident}", flush=True)


if __name__ == "__main__":
    main()
