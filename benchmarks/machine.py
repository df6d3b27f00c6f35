"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import process


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def compiler_version() -> str | None:
    command = process.compiler()
    if command is None:
        return None
    lines = subprocess.run([command, "--version"], capture_output=True, text=True).stdout.splitlines()
    return lines[0] if lines else command


def describe() -> dict[str, Any]:
    import fastmux

    return {
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
    }


def title(found: dict[str, Any]) -> str:
    return f"Python {found['python']}, Linux {found['kernel']}, {found['cpu']}, {found['cpus']} CPUs"
