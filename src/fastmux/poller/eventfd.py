"""A descriptor that one thread makes readable to end the wait of another, for StdlibPoller."""

from __future__ import annotations

import contextlib
import os
import sys


class EventFd:
    """An eventfd, or a pipe where there are none."""

    fd: int = -1
    _write_fd = -1

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def set(self) -> None:
        """Make it readable."""
        with contextlib.suppress(BlockingIOError):  # full, so it is readable
            os.write(self._write_fd, (1).to_bytes(8, sys.byteorder))

    def clear(self) -> None:
        """Make it not readable."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.fd, 512)) == 512:
                pass

    def renew(self) -> None:
        """Put another file under the same numbers, separate from the one that a parent process may share."""
        other = type(self)()
        for new, old in {(other.fd, self.fd), (other._write_fd, self._write_fd)}:
            os.dup2(new, old, inheritable=False)

    def close(self) -> None:
        for fd in {self.fd, self._write_fd} - {-1}:
            os.close(fd)
        self.fd = self._write_fd = -1

    __del__ = close
