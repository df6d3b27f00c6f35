"""The descriptors of StdlibPoller: its epoll set, the pipe that ends a wait of another thread, and registered ones.

A descriptor number is not a file: the program may have closed it and opened another file under it. A number is written
to, read, replaced or closed only if it is ours. Pipes and sockets have an inode of their own, so fstat() identifies
them. All epoll sets share one inode. So each set has a witness: a socket that reports nothing. If the kernel accepts a
change of the witness in the set, then the number is still that of the set.

On Windows select() takes sockets only, so a pair of them takes the place of the pipe. There is nothing to check there:
os.close() does not take the number of a socket, and there are no forks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from itertools import chain, repeat, starmap
from operator import methodcaller

from fastmux._events import EDGE
from fastmux._original import select

if sys.platform != "win32":
    import posix  # eventlet replaces os.read() and os.write() by functions that wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final


def is_of_handler(error: OSError) -> bool:
    """Return whether a signal handler has raised the error, such as TimeoutError: one of a system call has a number."""
    return error.errno is None


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError as error:
        if is_of_handler(error):
            raise
        return None
    return status.st_dev, status.st_ino


class OwnFiles:
    """Pipe ends or sockets: their numbers, and whether the numbers still stand for them.

    A signal handler may raise at any step. So the numbers are stored in the call that makes the files.
    """

    fds: Any = ()  # a list
    _identities: list[tuple[int, int] | None]  # set before fds

    def __init__(self, made: Iterable[int]) -> None:
        """Take the numbers from an iterator in C, which makes the files when it is asked."""
        self._identities = []
        self.fds = []
        self.fds.extend(made)
        self._identities += map(_identity, self.fds)

    @property
    def fd(self) -> int:
        """The first number; -1 after close()."""
        return self.fds[0] if self.fds else -1

    def is_ours(self) -> bool:
        return bool(self.fds) and [_identity(fd) for fd in self.fds] == self._identities

    def close(self) -> None:
        while self.fds:
            # An interrupted constructor has not identified them all.
            self._identities += map(_identity, self.fds[len(self._identities) :])
            fd = self.fds[-1]
            if _identity(fd) == self._identities[len(self.fds) - 1]:
                os.close(fd)
            self.fds.pop()

    def __del__(self) -> None:
        try:
            self.close()
        except BaseException:  # from a signal handler; Python drops it here
            self.close()
            raise


class WakePipe(OwnFiles):
    """A pipe that one thread makes readable to end the wait of another."""

    def __init__(self) -> None:
        super().__init__(chain.from_iterable(starmap(os.pipe, [()])))
        for fd in self.fds:
            os.set_blocking(fd, False)

    def set(self) -> bool:
        """Make it readable. Return False if the program has closed it."""
        if not self.is_ours():
            return False
        with contextlib.suppress(BlockingIOError):  # full, so it is readable
            posix.write(self.fds[1], b"\0")
        return True

    def clear(self) -> None:
        """Make it not readable."""
        with contextlib.suppress(BlockingIOError):
            while self.is_ours() and len(posix.read(self.fd, 512)) == 512:
                pass

    def renew(self) -> None:
        """Put another pipe under the same numbers, separate from the one that a parent process shares."""
        if self.is_ours():
            new = WakePipe()
            # One call of C: no signal handler runs before the identities are those of the new files.
            copies = map(os.dup2, new.fds, self.fds, repeat(False))
            list(chain(copies, map(setattr, [self], ["_identities"], [new._identities])))
            new.close()  # an exception at the start of the destructor would leave it open


class WakeSockets(WakePipe):
    """A pair of sockets in place of the pipe, on Windows."""

    _sockets: Any = ()

    def __init__(self) -> None:
        import socket

        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setblocking(False)
            if end.family == socket.AF_INET:  # do not delay a byte until the last one is acknowledged
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def fd(self) -> int:
        fd: int = self._sockets[0].fileno()
        return fd

    def is_ours(self) -> bool:
        return True

    def set(self) -> bool:
        with contextlib.suppress(BlockingIOError):  # full, so it is readable
            self._sockets[1].send(b"\0")
        return True

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._sockets[0].recv(4096):
                pass

    def close(self) -> None:
        for end in self._sockets:
            end.close()

    __del__ = close  # without the warning of a socket


#: Makes a pipe, or its substitute.
open_pipe: Final[Callable[[], WakePipe]] = WakeSockets if sys.platform == "win32" else WakePipe


class OwnEpoll:
    """An epoll object and its witness."""

    def __init__(self) -> None:
        import _socket  # gevent and eventlet replace socket.socket

        sockets = starmap(_socket.socket, [(_socket.AF_UNIX, _socket.SOCK_DGRAM)])
        self._witness = OwnFiles(map(methodcaller("detach"), sockets))
        self.epoll: Any = select.epoll()
        self.add_witness(self.epoll)

    def add_witness(self, epoll: Any) -> None:
        epoll.register(self._witness.fd, 0)

    def is_witness(self, fd: int) -> bool:
        return fd == self._witness.fd and self._witness.is_ours()

    def is_ours(self) -> bool:
        """Return whether the number of the set still stands for it."""
        if not self._witness.is_ours():
            return False
        try:
            self.epoll.modify(self._witness.fd, 0)
        except ValueError:  # closed; an exception has interrupted close()
            return False
        except OSError as error:
            if is_of_handler(error):
                raise
            return False
        return True

    def close(self) -> None:
        if self.is_ours():
            self.epoll.close()
        elif self._witness.fds and not self.epoll.closed:
            # Keep it to the end of the interpreter: its destructor would close the number.
            os.register_at_fork(before=self.epoll.fileno)
        self._witness.close()


def is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        if is_of_handler(error):
            raise
        return False


def has_entry(epoll: Any, fd: int) -> bool:
    """Return whether an epoll set has the file for which fd stands, under this number: it refuses to add both again.

    An inode does not tell: all eventfds share one, and a FIFO can be opened twice. (csrc/fork_epoll.c has the limit.)
    """
    try:
        # At most one report. One call of C: an exception of a signal handler leaves no entry.
        list(chain(map(epoll.register, [fd], [EDGE]), map(epoll.unregister, [fd])))
    except OSError as error:
        if is_of_handler(error) or error.errno in (errno.ENOMEM, errno.ENOSPC):
            raise
        return error.errno == errno.EEXIST
    return False


def check_open(fd: int) -> None:
    """Raise OSError (EBADF) if the number does not stand for an open file; on Windows, for an open socket."""
    if sys.platform != "win32":
        os.fstat(fd)
        return
    try:
        select.select([fd], [], [], 0)  # os.fstat() does not take the number of a socket
    except OSError:
        message = f"{os.strerror(errno.EBADF)}: select() on Windows takes open sockets only"
        raise OSError(errno.EBADF, message) from None


def is_open(fd: int) -> bool:
    """Return whether the number stands for an open file."""
    try:
        check_open(fd)
    except OSError as error:
        if is_of_handler(error):
            raise
        return False
    return True


def check_limit_of_select(fd: int, count: int) -> None:
    """Raise ValueError if ``select.select`` does not take fd, as one of count descriptors."""
    if sys.platform == "win32":
        if count > 511:
            raise ValueError("too many descriptors: select.select takes 512 on Windows, one of them for wake-ups")
    elif fd > 1023:
        raise ValueError(f"descriptor {fd} is too high: select.select takes those below 1024")
