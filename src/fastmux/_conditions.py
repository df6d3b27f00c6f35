"""What the event loop can watch for beyond reading and writing: urgent data, and a peer that sends no more."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ._checks import ERROR, HANGUP, PEER_CLOSED, PRIORITY
from ._poller import Poller
from ._stdlib import StdlibPoller

#: What makes a condition true, besides itself.
_BROKEN: Final = ERROR | HANGUP


class Conditions:
    """An epoll set of its own, nested in the loop's: there, a descriptor has one reader and one writer, no more.

    A condition is PRIORITY, reported for as long as it holds, or PEER_CLOSED, reported once.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        # The core may have been built without epoll, where the standard library has it.
        self._poller = (Poller if "epoll" in Poller.mechanisms else StdlibPoller)("epoll")
        self._handles: dict[tuple[int, int], asyncio.Handle] = {}
        self._fd = self._poller.fileno()
        loop._add_reader(self._fd, self._report)

    def close(self) -> None:
        self._handles.clear()
        self._loop._remove_reader(self._fd)
        self._poller.close()

    def watch(self, fd: int, condition: int, handle: asyncio.Handle) -> None:
        """Run handle when the condition holds, in place of the handle that did so before."""
        old = self._handles.pop((fd, condition), None)
        if old is not None:
            old.cancel()
        self._ask(fd, condition)
        self._handles[fd, condition] = handle

    def forget(self, fd: int, condition: int) -> bool:
        """Undo it; return whether there was anything to undo."""
        handle = self._handles.pop((fd, condition), None)
        if handle is None:
            return False
        handle.cancel()
        self._ask(fd, 0)
        return True

    def _ask(self, fd: int, condition: int) -> None:
        """Watch fd for this condition, and for those that it is watched for already."""
        for known in (PRIORITY, PEER_CLOSED):
            if (fd, known) in self._handles:
                condition |= known
        if fd in self._poller:
            self._poller.unregister(fd)  # and not modify(): the file may have been closed, and this be another
        if condition:
            self._poller.register(fd, condition)

    def _report(self) -> None:
        for fd, events in self._poller.poll(0):
            for condition in (PRIORITY, PEER_CLOSED):
                handle = self._handles.get((fd, condition))
                if handle is None:
                    continue
                if handle.cancelled():
                    self.forget(fd, condition)
                elif events & condition or (condition == PEER_CLOSED and events & _BROKEN):
                    self._loop._add_callback(handle)
                    if condition == PEER_CLOSED:
                        del self._handles[fd, condition]
                        self._ask(fd, 0)
