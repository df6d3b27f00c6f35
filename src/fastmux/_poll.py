"""``fastmux.select.poll``: the standard poll object on the core.

What is registered is kept as the records that the kernel wants, one by one in a dict, and put in a row before the next
call if anything has changed. Each step on the dict is a single one for the interpreter, so threads and signal handlers
need no lock.
"""

from __future__ import annotations

import errno
import struct
from time import monotonic_ns
from typing import Any, Final

from ._arguments import INT_MAX, LONGEST, NOW, NotCopied, descriptor_of, nanoseconds_away
from ._base import PRIORITY, READ, WRITE
from ._core import ROWS, NoPollList, PollList, os_error, poll_once, poll_once_now
from ._standard import select
from ._waiting import cover, fd_pairs, pairs_of

#: struct pollfd: a descriptor, what is asked, and room for the answer.
_record: Final = struct.Struct("iHxx").pack


class PollSet(NotCopied):
    """A set of descriptors for poll(2); see poll()."""

    __slots__ = ("_list", "_quick", "_records", "_stale")

    _list: Any  # PollList
    _records: dict[int, bytes]
    _stale: bool  # the list is older than the records
    _quick: PollList | None  # the list, if it is not stale and short

    def __new__(cls) -> PollSet:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    def register(self, fd: Any, eventmask: int = READ | PRIORITY | WRITE, /) -> None:
        """Watch fd, an int or an object with a fileno() method, for the POLL* bits in eventmask.

        One that is registered already is watched for these events from now on.
        """
        self._add(descriptor_of(fd), _short(eventmask))

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """Watch a registered fd for other events; FileNotFoundError if it is not registered."""
        if (result := self._change(descriptor_of(fd), _short(eventmask))) < 0:
            raise os_error(result)

    def unregister(self, fd: Any, /) -> None:
        """Stop watching fd; KeyError if it is not registered."""
        self._remove(descriptor_of(fd))

    # The same for PollSelector. Results as of the core.

    def _add(self, fd: int, mask: int) -> int:
        if type(fd) is not int or not 0 <= fd <= INT_MAX:
            return -errno.EBADF
        self._records[fd] = _record(fd, mask)
        self._stale = True
        self._quick = None
        if fd << 2 >= len(fd_pairs):
            cover(fd)
        return 0

    def _change(self, fd: int, mask: int) -> int:
        if fd not in self._records:
            return -errno.ENOENT
        self._records[fd] = _record(fd, mask)
        self._stale = True
        self._quick = None
        return 0

    def _remove(self, fd: int) -> int:
        del self._records[fd]
        self._stale = True
        self._quick = None
        return 0

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, and return ``(fd, events)`` of what is ready.

        timeout is milliseconds, rounded up; None and what is negative wait for ever.
        """
        area: Any = self._quick
        n = -1
        if area is not None and (
            timeout is NOW
            or (
                area.few
                and (
                    timeout is None
                    or ((timeout.__class__ is int or timeout.__class__ is float) and -LONGEST < timeout < LONGEST)
                )
            )
        ):
            n = poll_once_now(area.handle)
            if n == 0 and timeout is NOW:
                return []
        if n <= 0:
            found = self._ask(-1 if timeout is None else nanoseconds_of(timeout))
            if found is None:
                return []
            area, n = found
        if n < ROWS:
            try:
                return [fd_pairs[n]]
            except IndexError:
                pass
        return pairs_of(area, n)

    def _ask(self, ns: int, wake_fd: int = -1) -> tuple[Any, int] | None:
        """Wait with everything that can happen, also until wake_fd can be read.

        Return the list used, and what the core returned; None for nothing.
        """
        area = self._list
        deadline = monotonic_ns() + ns if ns > 0 else 0
        while True:
            if area.memory[0] == 1:
                raise RuntimeError("concurrent poll() invocation")
            # 2: an exception has kept somebody from reading a result, or another thread is about to read it.
            if self._stale or area.memory[0]:
                self._stale = False
                area = self._list = PollList(b"".join(self._records.values()))
                self._quick = area if area.short and not self._stale else None
            n: int = poll_once(area.handle, ns, wake_fd)
            if n >= 0:
                return (area, n) if n else None
            if n != -errno.EINTR and n != -errno.EBUSY:
                raise os_error(n)
            if ns > 0:
                ns = max(deadline - monotonic_ns(), 0)


def poll() -> PollSet:
    """Make a set of descriptors for poll(2), as ``select.poll``."""
    self = object.__new__(PollSet)
    self._list = NoPollList
    self._records = {}
    self._stale = True
    self._quick = None
    return self


def _short(eventmask: int) -> int:
    """Check an event mask of poll."""
    if isinstance(eventmask, int) and 0 <= eventmask <= 0xFFFF:
        return int(eventmask)
    select.poll().register(0, eventmask)
    raise OverflowError("Python int too large for C unsigned short")


def nanoseconds_of(timeout: float) -> int:
    """Convert a timeout of poll.poll() to nanoseconds; -1 for what is negative."""
    try:
        ns = nanoseconds_away(timeout, 1_000_000)
        ms = -(-ns // 1_000_000) if ns >= 0 else ns // 1_000_000
        if -INT_MAX - 1 <= ms <= INT_MAX:
            return ms * 1_000_000 if ms >= 0 else -1
    except Exception:
        pass
    select.poll().poll(timeout)
    raise OverflowError("timeout is too large")
