"""A descriptor that one thread makes readable to end the wait of another, for StdlibPoller."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_ONE = (1).to_bytes(8, sys.byteorder)


class EventFd:
    """An eventfd."""

    fd: int = -1

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """Make it readable. Each call is a new edge."""
        with contextlib.suppress(BlockingIOError):  # full, so it is readable
            os.write(self.fd, _ONE)

    def clear(self) -> None:
        """Make it not readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def renew(self) -> None:
        """Put another file under the same number, separate from the one that a parent process may share."""
        other = type(self)()
        os.dup2(other.fd, self.fd, inheritable=False)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class SocketPair(EventFd):
    """A pair of sockets, where there are no eventfds. Not a pipe: select() on Windows takes sockets only."""

    fd: int = -1
    _ends: tuple[socket.socket, ...] = ()

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
            if end.family == socket.AF_INET:  # Windows: do not delay a byte until the last one is acknowledged
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._ends[0].fileno()

    def set(self) -> None:
        try:
            self._ends[1].send(b"\1")
        except BlockingIOError:  # full: readable, but an edge needs new data
            self.clear()
            self._ends[1].send(b"\1")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ends[0].recv(4096):
                pass

    def renew(self) -> None:
        other = type(self)()
        for new, old in zip(other._ends, self._ends):
            os.dup2(new.fileno(), old.fileno(), inheritable=False)

    def close(self) -> None:
        for end in self._ends:
            end.close()
        self.fd = -1


#: Makes an eventfd, or its substitute.
open_eventfd: Final[Callable[[], EventFd]] = EventFd if hasattr(os, "eventfd") else SocketPair
