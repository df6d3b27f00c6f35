"""``python -m fastmux info``: the mechanisms, kernel features and limits of this machine, determined by trying them."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

import fastmux
from fastmux import _binding
from fastmux._events import EXCLUSIVE, READ, WRITE
from fastmux._original import select


def collect() -> dict[str, dict[str, Any]]:
    """Return the facts: section -> name -> value."""
    mechanisms = fastmux.Poller.mechanisms
    return {
        "fastmux": {
            "version": fastmux.__version__,
            "implementation": fastmux.implementation,
            **({} if fastmux.implementation == "c" else {"reason": reason()}),
            "mechanisms": list(mechanisms),
            "default selector": fastmux.selectors.DefaultSelector.__name__,
        },
        "system": {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "kernel features": {
            "epoll": "epoll" in mechanisms,
            "epoll_pwait2": supports_nanoseconds(),
            "EXCLUSIVE": supports_exclusive(),
        },
        "limits": limits(),
    }


def reason() -> str:
    """Return why the implementation is "python"."""
    built = importlib.util.find_spec("fastmux._native") is not None
    if built or _binding.is_set("FASTMUX_PURE"):
        return _binding.reason
    if platform.python_implementation() != "CPython" or sys.platform == "win32":
        return f"there is no extension for {platform.python_implementation()} on {platform.system()}"
    return (
        "the extension was not built when fastmux was installed, usually because there was no C compiler;"
        " with one, run: pip install --force-reinstall --no-cache-dir fastmux-io"
    )


def table(facts: dict[str, dict[str, Any]]) -> str:
    """Format the facts for reading."""
    width = max(len(name) for section in facts.values() for name in section)
    lines = []
    for title, section in facts.items():
        lines += ["", title]
        lines += [f"  {name:<{width}}  {format_value(value)}" for name, value in section.items()]
    return "\n".join(lines[1:])


def format_value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def supports_nanoseconds() -> bool:
    """Return whether epoll waits in nanoseconds (epoll_pwait2, Linux 5.11) instead of milliseconds."""
    return _binding.implementation == "c" and bool(_binding.lib.fmux_epoll_nanoseconds())


def supports_exclusive() -> bool:
    """Return whether the kernel has EPOLLEXCLUSIVE (Linux 4.5). Older ones ignore it, and so accept this modify()."""
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
    """Return the limits of open files of this process, and of watches in the epoll sets of this user."""
    found: dict[str, int | None] = dict.fromkeys(("open files, soft", "open files, hard", "max_user_watches"))
    with contextlib.suppress(ImportError):  # Windows
        import resource

        for name, value in zip(found, resource.getrlimit(resource.RLIMIT_NOFILE)):
            found[name] = None if value == resource.RLIM_INFINITY else value
    with contextlib.suppress(OSError, ValueError):  # not Linux, or no access
        found["max_user_watches"] = int(Path("/proc/sys/fs/epoll/max_user_watches").read_text())
    return found
