"""wakeup() for selectors that hand the kernel a list: PollSelector and SelectSelector.

The kernel copies the list, and nothing can be added to it afterwards. So every wait that may block has one descriptor
more in its list, which another thread can make readable. It belongs to the wait and not to the selector, because the
standard selectors of these kinds hold no descriptor, and nobody has to close them: a wait takes one, and puts it back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Final, TypeVar

from ._stdlib import WakeUp

_Found = TypeVar("_Found")

#: How often a wait without a descriptor looks up, in nanoseconds.
_GLANCE: Final = 20_000_000


class Waiter(WakeUp):
    """A wait in progress, and the descriptor that ends it; -1 if there was none left."""

    def __init__(self) -> None:
        self.woken = False
        #: What it is known by while it waits. Weak: an exception of a signal handler may come at any step, also when
        #: the wait is about to say that it has ended.
        self.ref = weakref.ref(self, _waiting.discard)
        with contextlib.suppress(OSError):
            super().__init__()

    def wake(self) -> None:
        """End the wait."""
        if not self.woken:
            self.woken = True
            if self.fd >= 0:
                self.set()


#: One that no wait is using, or none.
_spare: list[Waiter] = []
_waiting: set[weakref.ref[Waiter]] = set()
#: Guards who is waiting for what. Re-entrant, because a signal handler may call wakeup().
_lock = threading.RLock()


def _after_fork() -> None:
    """Make new descriptors in a child: with those that it has inherited it would wake its parent."""
    global _lock
    _lock = threading.RLock()
    _spare.clear()
    for waiter in those(_waiting):
        with contextlib.suppress(OSError):
            waiter.renew()


os.register_at_fork(after_in_child=_after_fork)


def those(refs: Iterable[weakref.ref[Waiter]]) -> list[Waiter]:
    """The waits of these that are still in progress."""
    return [waiter for ref in tuple(refs) if (waiter := ref()) is not None]


class Wakeable:
    """Something whose waits can be ended: a mixin."""

    _waiters: tuple[weakref.ref[Waiter], ...] = ()
    #: There was a wakeup(), and nobody waiting.
    _woken = False

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns what is ready, usually nothing. Several calls before a select() can answer count as one.
        """
        with _lock:
            waiters = those(self._waiters)
            if not waiters:
                self._woken = True
            for waiter in waiters:
                if not waiter.woken:
                    waiter.wake()
                    break

    def close(self) -> None:
        """Forget all registrations, and end all waits in progress. May be repeated."""
        super().close()  # type: ignore[misc]
        if self._waiters:
            with _lock:
                for waiter in those(self._waiters):
                    waiter.wake()

    def _wait(self, ns: int, ask: Callable[[int, int], _Found]) -> _Found:
        """Wait for ns nanoseconds (-1: for ever), for what ask() finds, or for wakeup(). Return what ask() returned.

        ask() takes a time in nanoseconds and a descriptor, and waits for that as well unless it is -1. What it
        returns is true if it has found something.
        """
        try:
            waiter = _spare.pop()
        except IndexError:
            waiter = Waiter()
        try:
            with _lock:
                # Whoever comes after this finds the waiter; whoever came before it has left a note.
                self._waiters += (waiter.ref,)
                _waiting.add(waiter.ref)
                if self._woken:
                    self._woken = False
                    waiter.wake()
            if waiter.fd >= 0:
                return ask(ns, waiter.fd)
            deadline = monotonic_ns() + ns
            while True:
                rest = _GLANCE if ns < 0 else min(max(deadline - monotonic_ns(), 0), _GLANCE)
                found = ask(0 if waiter.woken else rest, -1)
                if found or waiter.woken or (ns >= 0 and monotonic_ns() >= deadline):
                    return found
        finally:
            with _lock:
                self._waiters = tuple(ref for ref in self._waiters if ref() not in (None, waiter))
                _waiting.discard(waiter.ref)
            if waiter.fd >= 0:
                if waiter.woken:
                    waiter.clear()
                    waiter.woken = False
                if not _spare:
                    _spare.append(waiter)
