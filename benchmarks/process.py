"""Child processes: compiled, run, stopped. Each is in a session of its own, so Ctrl-C reaches this process alone,
which then stops its children."""

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


def build(source: Path, target: Path, *flags: str) -> str | None:
    """Compile source; return None, or the reason why that is not possible."""
    command = compiler()
    if command is None:
        return "no C compiler (cc or gcc)"
    finished = subprocess.run(
        [command, "-O2", *flags, "-o", str(target), str(source)], capture_output=True, text=True, start_new_session=True
    )
    if finished.returncode != 0:
        return f"{command} cannot compile {source.name}: {finished.stderr.strip().splitlines()[:1]}"
    return None


@contextlib.contextmanager
def child(arguments: Sequence[str], cpu: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A child process, on one CPU only if that is given; stopped at the end if it has not ended."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        if cpu is not None:
            with contextlib.suppress(OSError):  # it has ended already, or we may not: then it runs where it likes
                os.sched_setaffinity(process.pid, {cpu})
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def lines(arguments: Sequence[str]) -> Iterator[str]:
    """Run a child to its end and yield what it prints, line by line."""
    with child(arguments) as process:
        assert process.stdout is not None
        yield from process.stdout
        _check(process, arguments, process.communicate()[1])


def run(arguments: Sequence[str], cpu: int | None = None, patience: float = 300) -> str:
    """Run a child to its end and return what it prints."""
    with child(arguments, cpu) as process:
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"not finished after {patience:.0f} s: {' '.join(arguments)}") from None
        _check(process, arguments, err)
        return out


def _check(process: subprocess.Popen[str], arguments: Sequence[str], err: str) -> None:
    if process.returncode != 0:
        raise BenchmarkError(f"exit status {process.returncode}: {' '.join(arguments)}\n{err.strip()}")
