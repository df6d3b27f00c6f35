"""Compile, run and stop child processes.

Each child has its own session, so Ctrl-C reaches this process alone, which then stops its children.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .results import BenchmarkError


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def build(sources: Sequence[Path], target: Path, *flags: str) -> str | None:
    """Compile a program or library; return None, or the reason for the failure."""
    command = compiler()
    if command is None:
        return "no C compiler (cc or gcc)"
    finished = subprocess.run(
        [command, "-O2", "-o", str(target), *map(str, sources), *flags],
        capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    if finished.returncode != 0:
        return f"{command} cannot compile {sources[0].name}: {finished.stderr.strip().splitlines()[:1]}"
    return None


@contextlib.contextmanager
def child(command: Sequence[str], cpu: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a child, pinned to cpu if given; stop it at the end if it still runs."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        pin(process, cpu)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def pin(process: subprocess.Popen[str], cpu: int | None) -> None:
    """Pin a child to a CPU, if given and permitted."""
    if cpu is not None:
        with contextlib.suppress(OSError):  # also: it has ended
            os.sched_setaffinity(process.pid, {cpu})


def stream_lines(command: Sequence[str]) -> Iterator[str]:
    """Run a child to its end and yield its output line by line."""
    with child(command) as process:
        assert process.stdout is not None
        yield from process.stdout
        _check_status(process, command, process.communicate()[1])


def run(command: Sequence[str], cpu: int | None = None, timeout: float = 300) -> str:
    """Run a child to its end and return its output."""
    with child(command, cpu) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"timeout after {timeout:.0f} s: {' '.join(command)}") from None
        _check_status(process, command, err)
        return out


def _check_status(process: subprocess.Popen[str], command: Sequence[str], err: str) -> None:
    if process.returncode != 0:
        raise BenchmarkError(f"exit status {process.returncode}: {' '.join(command)}\n{err.strip()}")
