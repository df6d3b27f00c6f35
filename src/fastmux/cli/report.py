"""FASTMUX_REPORT=1: print at the end of the process which event loops and selectors it has created."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from fastmux import _binding, _original

from .imports import when_created, when_imported

if TYPE_CHECKING:
    from types import FrameType

_set_handler = signal.signal
_loops: Counter[type] = Counter()
_selectors: Counter[type] = Counter()
#: The process that has to print; 0 after it has.
_pid: int | None = None


def start() -> None:
    """Count from now on, and print at the end of this process and of forked children."""
    global _pid
    if _pid is not None:
        return
    _pid = os.getpid()
    # The second copy of selectors, if there is one, has a base class of its own.
    for base in {
        getattr(module, "_BaseSelectorImpl", None) for module in (_original.selectors, sys.modules["selectors"])
    }:
        if base is not None:
            when_created(base, lambda cls: _selectors.update([cls]))
    when_imported("asyncio", lambda module: _count_loops(module.BaseEventLoop))
    when_imported("uvloop", _count_uvloop)
    atexit.register(_print)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_restart)
    when_imported("multiprocessing.util", _print_in_forked_children)
    _print_before_termination()


def _count_loops(cls: Any) -> None:
    when_created(cls, lambda cls: _loops.update([cls]))


def _count_uvloop(uvloop: Any) -> None:
    from asyncio import BaseEventLoop

    if not issubclass(uvloop.Loop, BaseEventLoop):  # as it is after --replace-uvloop
        _count_loops(uvloop.Loop)


def _restart() -> None:
    global _pid
    _pid = os.getpid()
    _loops.clear()
    _selectors.clear()


def _print_in_forked_children(util: Any) -> None:
    """Register an exit function in each forked child of multiprocessing, which runs no other ones."""
    util.register_after_fork(_print, lambda _: util.Finalize(None, _print, exitpriority=-1000))


def _print_before_termination() -> None:
    """Put a handler in the place of the default action of SIGTERM, which runs no exit function. Servers end by it."""

    @functools.wraps(_set_handler)
    def with_print(number: Any, handler: Any) -> Any:
        return _set_handler(number, _terminate if number == signal.SIGTERM and handler == signal.SIG_DFL else handler)

    signal.signal = with_print  # type: ignore[assignment]
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with contextlib.suppress(ValueError):  # not the main thread
            _set_handler(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Print, and end the process as the default action of the signal does."""
    _print()
    _set_handler(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _print() -> None:
    global _pid
    if _pid == os.getpid() and sys.stderr is not None:
        _pid = 0
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # a closed file; a signal amid another print()
            print(line(), file=sys.stderr, flush=True)


def line() -> str:
    """Return the report: the classes of event loops and selectors that this process has created, and how many."""
    parts = (
        _counts("event loop", _loops),
        _counts("selector", _selectors),
        f"implementation: {_binding.implementation}",
    )
    program = os.path.basename(sys.argv[0].removesuffix(os.sep + "__main__.py")) if sys.argv else ""
    return f"fastmux: {program or 'python'} (process {os.getpid()}): {'; '.join(parts)}"


def _counts(what: str, counter: Counter[type]) -> str:
    """Return the classes with their numbers, as in "event loops: 2 fastmux.EventLoop"."""
    counts = ", ".join(f"{count} {cls.__module__}.{cls.__qualname__}" for cls, count in counter.most_common())
    return f"{what}s: {counts}" if counts else f"no {what}"
