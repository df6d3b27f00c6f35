"""``fastmux.select.poll``: the standard poll object on the C core.

The registrations are a dict: descriptor -> mask. csrc/python/poll_select.c makes the kernel's records from it; the
second call without a change keeps them for later calls. Each step on the dict is atomic in the interpreter, so threads
and signal handlers need no lock.
"""

from __future__ import annotations

import errno

from fastmux._binding import (
    BUSY,
    FRESH,
    INT_MAX,
    NOW,
    NULL,
    UNUSUAL,
    open_context,
    os_error,
    poll_pairs,
    poll_pairs_now,
)
from fastmux._events import PRIORITY, READ, WRITE
from fastmux._original import select
from fastmux._timeouts import for_poll

from .arguments import NotCopied, descriptor_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PollSet(NotCopied):
    """A set of descriptors for poll(2); see poll()."""

    __slots__ = ("_context", "_keys", "_masks")

    _masks: dict[int, int]
    #: The map of keys of a selector, to which the context refers: a subclass may replace its own.
    _keys: dict[int, Any] | None
    #: FRESH is cleared before and after a change: an exception from a signal handler may skip the second time.
    _context: bytearray

    def __new__(cls) -> PollSet:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    def register(self, fd: Any, eventmask: int = READ | PRIORITY | WRITE, /) -> None:
        """Watch fd, an int or an object with a fileno() method, for the POLL* bits in eventmask.

        For a registered descriptor this replaces the mask.
        """
        self._set(descriptor_of(fd), _short(eventmask))

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """Replace the mask of a registered fd; FileNotFoundError if it is not registered."""
        fd, mask = descriptor_of(fd), _short(eventmask)
        if fd not in self._masks:
            raise os_error(-errno.ENOENT)
        self._set(fd, mask)

    def unregister(self, fd: Any, /) -> None:
        """Stop watching fd; KeyError if it is not registered."""
        self._discard(descriptor_of(fd))

    def _set(self, fd: int, mask: int) -> None:
        context = self._context
        context[FRESH] = 0
        try:
            self._masks[fd] = mask
        finally:
            context[FRESH] = 0

    def _discard(self, fd: int) -> None:
        context = self._context
        context[FRESH] = 0
        try:
            del self._masks[fd]
        finally:
            context[FRESH] = 0

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, and return ``(fd, events)`` for each ready descriptor.

        timeout is milliseconds, rounded up; None and negative timeouts wait for ever.
        """
        result = poll_pairs_now(self._context) if timeout is NOW else poll_pairs(self._context, timeout)
        if result == UNUSUAL:
            milliseconds = for_poll(timeout)
            while milliseconds is not None and milliseconds > INT_MAX:
                if result := self.poll(INT_MAX):
                    return result
                milliseconds -= INT_MAX
            result = poll_pairs(self._context, milliseconds)
        if result.__class__ is list:
            return result
        if result == BUSY:
            raise RuntimeError("concurrent poll() invocation")
        raise os_error(result)


PollSet.__module__ = "fastmux.select"


def make_set(keys: dict[int, Any] | None) -> PollSet:
    """Make a set; keys (descriptor -> key) are for a selector."""
    self = object.__new__(PollSet)
    self._masks = {}
    self._keys = keys
    self._context = open_context(NULL, masks=self._masks, keys=keys)
    return self


def poll() -> PollSet:
    """Make a set of descriptors for poll(2), as ``select.poll``."""
    return make_set(None)


poll.__module__ = "fastmux.select"


def _short(eventmask: int) -> int:
    """Return the event mask of a poll object as an int, or raise as the standard library does."""
    if isinstance(eventmask, int) and 0 <= eventmask <= 0xFFFF:
        return int(eventmask)
    select.poll().register(0, eventmask)
    raise OverflowError("Python int too large for C unsigned short")
