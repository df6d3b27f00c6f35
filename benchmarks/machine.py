"""Describe the machine and its software; check and raise its limit of open files."""

from __future__ import annotations

import datetime
import importlib.util
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import child_process

#: Optional competitors, and servers that run on event loops; the extra "peers": module -> distribution.
PEERS = {"uvloop": "uvloop", "rloop": "rloop", "gevent": "gevent", "zmq": "pyzmq", "trio": "trio"}
PEERS |= {name: name for name in ("uvicorn", "httptools", "aiohttp")}
#: Open files of a benchmark process besides the measured ones, with a margin.
OTHER_DESCRIPTORS = 64


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def available(candidate: str) -> bool:
    """Return whether a candidate is installed; only some need to be."""
    return candidate not in PEERS or installed(candidate)


def with_version(name: str) -> str:
    """Append the version to a name that has its own."""
    if name in PEERS or name == "fastmux":
        return f"{name} {peer_version(name)}"
    return f"{name} (Python {platform.python_version()})" if name == "asyncio" else name


def peer_version(module: str) -> str | None:
    return version(PEERS.get(module, "fastmux-io")) if installed(module) else None


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def missing_descriptors(measured: int) -> str:
    """Return "" if so many descriptors can be open at a time, else the reason why not."""
    if (needed := measured + OTHER_DESCRIPTORS) <= descriptor_limit():
        return ""
    return f"{needed:,} open files are needed, and the hard limit (ulimit -Hn) is {descriptor_limit():,}"


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def compiler_version() -> str | None:
    command = child_process.compiler()
    if command is None:
        return None
    lines = subprocess.run([command, "--version"], capture_output=True, text=True).stdout.splitlines()
    return lines[0] if lines else command


def describe() -> dict[str, Any]:
    import fastmux

    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "fastmux": fastmux.__version__,
        "implementation": fastmux.implementation,
        "python": platform.python_version(),
        "python_compiler": platform.python_compiler(),
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": compiler_version(),
        "open_files": descriptor_limit(),
        "load": os.getloadavg()[0],
        "peers": {distribution: peer_version(module) for module, distribution in PEERS.items()},
        "pyperf": version("pyperf"),
    }


def title(info: dict[str, Any]) -> str:
    return f"Python {info['python']}, Linux {info['kernel']}, {info['cpu']}, {info['cpus']} CPUs"
