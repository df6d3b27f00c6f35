"""What the kernel and the user's limits allow: found out by trying. For ``python -m fastmux info``."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path

from . import _core
from ._checks import EXCLUSIVE, READ, WRITE
from ._standard import select


def supports_nanoseconds() -> bool:
    """Whether waits by epoll are timed in nanoseconds (epoll_pwait2, Linux 5.11), not in milliseconds."""
    return _core.implementation == "c" and bool(_core.lib.fmux_epoll_nanoseconds())


def supports_exclusive() -> bool:
    """Whether the kernel knows EPOLLEXCLUSIVE (Linux 4.5). Older ones ignore it, and so allow what it forbids."""
    if not hasattr(select, "epoll"):
        return False
    ends = os.pipe()
    try:
        with select.epoll() as epoll:
            epoll.register(ends[0], READ | EXCLUSIVE)
            epoll.modify(ends[0], WRITE)
    except OSError as error:
        return error.errno == errno.EINVAL
    finally:
        for fd in ends:
            os.close(fd)
    return False


def limits() -> dict[str, int | None]:
    """How many descriptors this process may have open, and how many this user's epoll sets may watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found: dict[str, int | None] = {"open files, soft": soft, "open files, hard": hard, "max_user_watches": None}
    with contextlib.suppress(OSError, ValueError):  # not Linux, or no access
        found["max_user_watches"] = int(Path("/proc/sys/fs/epoll/max_user_watches").read_text())
    return {name: None if value == resource.RLIM_INFINITY else value for name, value in found.items()}
