"""``fastmux.select.poll``: the standard poll object on the core.

What is registered is kept in a dict, and put in a row for the kernel when it has been asked about twice. Each step on
the dict is a single one for the interpreter, so threads and signal handlers need no lock.
"""

from __future__ import annotations

import errno
import struct
from time import monotonic_ns
from typing import Any, Final

from ._arguments import INT_MAX, LONGEST, NOW, REAL_TIMEOUTS, NotCopied, descriptor_of, nanoseconds_away
from ._checks import PRIORITY, READ, WRITE
from ._core import ROWS, NoPollList, PollList, os_error, poll_once, poll_once_now
from ._standard import select
from ._waiting import fd_pairs, pairs_of

#: struct pollfd: a descriptor, what is asked, and room for the answer.
_record: Final = struct.Struct("iHxx").pack


class PollSet(NotCopied):
    """A set of descriptors for poll(2); see poll().

    The first question after a change goes to a standard poll object: many a set is asked once only, or changed before
    every question, and a list of our own takes longer to make than it saves. From the second one on, there is a list.
    """

    __slots__ = ("_asked", "_list", "_masks", "_quick", "_standard")

    _standard: Any
    _masks: dict[int, int]
    _asked: int  # how often since the last change: never, once, or more often, with the list
    _list: Any  # the PollList that was asked last
    _quick: PollList | None  # the same if it is short, and up to date

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
        self._standard.register(fd, mask)
        self._masks[fd] = mask
        self._asked = 0
        self._quick = None
        return 0

    def _change(self, fd: int, mask: int) -> int:
        return self._add(fd, mask) if fd in self._masks else -errno.ENOENT

    def _remove(self, fd: int) -> int:
        try:
            del self._masks[fd]
        finally:  # also for those who call again because an exception has interrupted this
            self._asked = 0
            self._quick = None
            self._standard.unregister(fd)
        return 0

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, and return ``(fd, events)`` of what is ready.

        timeout is milliseconds, rounded up; None and what is negative wait for ever.
        """
        area: Any = self._quick
        n = -1
        if area is None:
            if self._asked == 0:
                return self._ask_standard(timeout)
        elif timeout is NOW or (
            area.few
            and (
                timeout is None
                or ((timeout.__class__ is int or timeout.__class__ is float) and -LONGEST < timeout < LONGEST)
            )
        ):
            n = poll_once_now(area.handle)
            if 0 < n < ROWS:
                try:
                    return [fd_pairs[n]]
                except IndexError:
                    return pairs_of(area, n)
            if n == 0 and timeout == 0:
                return []
        if n <= 0:
            found = self._ask(-1 if timeout is None else nanoseconds_of(timeout))
            if found is None:
                return []
            area, n = found
        return pairs_of(area, n)

    def _ask_standard(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait by the standard object; in milliseconds, too."""
        if self._list.memory[0] == 1:
            raise RuntimeError("concurrent poll() invocation")
        found: list[tuple[int, int]] = self._standard.poll(timeout)
        self._asked = 1
        return found

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
            if self._asked < 2 or area.memory[0]:
                area = self._make_list()
            n: int = poll_once(area.handle, ns, wake_fd)
            if n >= 0:
                return (area, n) if n else None
            if n != -errno.EINTR and n != -errno.EBUSY:
                raise os_error(n)
            if ns > 0:
                ns = max(deadline - monotonic_ns(), 0)

    def _make_list(self) -> PollList:
        """Have a list of what is registered now. Whoever changes that meanwhile says so again."""
        try:
            self._asked = 2
            masks = self._masks.copy()
            self._list = area = PollList(b"".join([_record(*item) for item in masks.items()]))
        except BaseException:
            self._asked = 0
            raise
        self._quick = area if area.short else None
        if self._asked != 2:
            self._quick = None
        return area


def poll() -> PollSet:
    """Make a set of descriptors for poll(2), as ``select.poll``."""
    self = object.__new__(PollSet)
    self._standard = select.poll()
    self._masks = {}
    self._asked = 0
    self._list = NoPollList
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
        if REAL_TIMEOUTS or -INT_MAX - 1 <= ms <= INT_MAX:
            return ms * 1_000_000 if ms >= 0 else -1
    except (TypeError, ValueError, OverflowError):
        pass
    select.poll().poll(timeout)
    raise OverflowError("timeout is too large")
