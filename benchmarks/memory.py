"""What one registration costs in memory, beside the kernel's own: ``python -m benchmarks.memory``.

Each figure comes from a fresh process, which makes socket pairs, looks at its memory, registers both ends of all of
them, and looks again while it holds the result of a second select(): for reading, when nothing is ready, or for
writing, when everything is. Allocated is what malloc() has handed out by its own account, with Python's allocator
switched off; resident, with Python as it is, what has got pages of the kernel.
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

from . import machine, process

SIZES = (100, 1000, 9000)
#: Descriptors of a process that are not registered, with room to spare.
OTHERS = 64
CANDIDATES: dict[str, Callable[[], Any]] = {
    "selectors.EpollSelector": selectors.EpollSelector,
    "fastmux.selectors.EpollSelector": fastmux.selectors.EpollSelector,
    "fastmux.Poller, epoll": fastmux.Poller,
    "selectors.PollSelector": selectors.PollSelector,
    "fastmux.selectors.PollSelector": fastmux.selectors.PollSelector,
    "fastmux.Poller, poll": lambda: fastmux.Poller("poll"),
}
#: Below so many registrations, the resident set is too coarse a measure.
COARSE = 1000


class Row(NamedTuple):
    """Bytes per registration."""

    candidate: str
    size: int  # registrations
    ready: bool  # all of them, and the result of select() is held
    allocated: float
    resident: float | None


class Info(ctypes.Structure):
    """struct mallinfo2 of glibc, from 2.33 on."""

    _fields_ = [("counts", ctypes.c_size_t * 10)]


def held() -> dict[str, int]:
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Info
    counts = mallinfo2().counts
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"allocated": counts[4] + counts[7], "resident": pages * os.sysconf("SC_PAGE_SIZE")}


def growth(candidate: str, size: int, ready: bool) -> dict[str, float]:
    """What this process holds more for each registration."""
    machine.raise_descriptor_limit()
    sockets = [end for _ in range(size // 2) for end in socket.socketpair()]
    selector = CANDIDATES[candidate]()
    reading, writing = selectors.EVENT_READ, selectors.EVENT_WRITE
    if isinstance(selector, fastmux.Poller):
        reading, writing = fastmux.READ, fastmux.WRITE
    selector.register(sockets[0], reading)  # everything has been used once
    selector.select(0)
    selector.unregister(sockets[0])
    held()
    before = held()
    for end in sockets:
        selector.register(end, writing if ready else reading)
    selector.select(0)
    result = selector.select(0)
    after = held()
    if len(result) != (size if ready else 0):
        raise AssertionError(f"{len(result)} of {size} are ready")
    return {name: (after[name] - before[name]) / size for name in before}


def rows(sizes: Sequence[int] = SIZES) -> list[Row]:
    """Measure all candidates, each in processes of its own."""
    found = []
    for size in sizes:
        for ready in (False, True):
            for candidate in CANDIDATES:
                command = [sys.executable, "-m", f"{__package__}.memory", json.dumps([candidate, size, ready])]
                exact = json.loads(process.run(["env", "PYTHONMALLOC=malloc", *command]))
                resident = json.loads(process.run(command))["resident"] if size >= COARSE else None
                found.append(Row(candidate, size, ready, exact["allocated"], resident))
    return found


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(growth(*json.loads(sys.argv[1]))))
        return
    machine.raise_descriptor_limit()
    sizes = [size for size in SIZES if size + OTHERS <= machine.descriptor_limit()]
    print(f"{machine.title(machine.describe())}; bytes per registration")
    for row in rows(sizes):
        ready = "all ready" if row.ready else "idle"
        resident = "" if row.resident is None else f"{row.resident:6.0f} resident"
        print(f"{row.candidate:32} {row.size:6,} {ready:10} {row.allocated:6.0f} allocated {resident}", flush=True)


if __name__ == "__main__":
    main()
