"""What the selectors here can do beyond the standard ones, whatever they wait with.

A mixin to put before a standard selector: more events, a wake-up, and healing. What it does not touch is left to the
standard class, and so to the code that programs know.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors as _selectors
from collections.abc import Iterable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import Any, Final

from ._base import EDGE, ERROR, EXCLUSIVE, HANGUP, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE, new_tuple
from ._stdlib import WakeUp

#: Urgent (out-of-band) data, for register() and modify(), and in results.
EVENT_PRIORITY: Final = 1 << 16

BOTH: Final = EVENT_READ | EVENT_WRITE
#: What is meant by a mask of EVENT_READ and EVENT_WRITE to poll and epoll.
MASKS: Final = (0, READ, WRITE, READ | WRITE)
_CONDITIONS: Final = BOTH | EVENT_PRIORITY | PEER_CLOSED
_BROKEN: Final = HANGUP | ERROR | 0x20  # POLLNVAL


_standard_register: Final[Any] = _selectors._BaseSelectorImpl.register


def mask_of(events: int) -> int:
    """What the events of a selector are to poll and epoll."""
    mask = MASKS[events & BOTH] | events & (PEER_CLOSED | EDGE | ONESHOT | EXCLUSIVE)
    return mask | PRIORITY if events & EVENT_PRIORITY else mask


def found(key: SelectorKey, mask: int) -> int:
    """What a mask that poll or epoll has reported is to a selector."""
    if key.events & ~BOTH == 0:
        # The standard selectors' way: whatever is not plainly the one may be the other.
        return ((mask & ~READ and EVENT_WRITE) | (mask & ~WRITE and EVENT_READ)) & key.events
    if mask & _BROKEN:
        return _CONDITIONS & key.events
    events = (mask & READ and EVENT_READ) | (mask & WRITE and EVENT_WRITE) | mask & PEER_CLOSED
    return (events | EVENT_PRIORITY if mask & PRIORITY else events) & key.events


def _identity(fd: int) -> tuple[int, ...] | None:
    """What tells open files apart (device and inode), as far as anything does; None for what is not open."""
    try:
        return os.fstat(fd)[1:3]
    except OSError:
        return None


class Extended(BaseSelector):
    """What the selectors here can do beyond the standard ones: a mixin to put before those.

    heal: a key whose file was closed without being unregistered gives way when its number is registered again. The
    standard selectors, and these unless told otherwise, raise KeyError then. It can be seen if the file object knows
    that it is closed, or if the number belongs to another file (another inode) now.
    """

    #: Which events this selector takes beyond EVENT_READ and EVENT_WRITE.
    _more = 0

    _fd_to_key: dict[int, SelectorKey]
    _fileobj_lookup: Any

    def __init__(self, *, heal: bool = False) -> None:
        super().__init__()
        self._heal = heal
        self._files: dict[int, Any] = {}  # if healing: descriptor -> _identity
        self._wake: WakeUp | None = None

    # Registrations

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key."""
        if self._heal:
            self._drop_stale(fileobj)
        if self._asks_more(events):
            # First in the standard way, for its checks; then for what is really wanted.
            key = new_tuple(SelectorKey, (*_standard_register(self, fileobj, EVENT_READ, data)[:2], events, data))
            self._fd_to_key[key.fd] = key
            try:
                self._watch(key)
            except BaseException:
                del self._fd_to_key[key.fd]
                raise
        else:
            key = super().register(fileobj, events, data)
        if self._heal:
            self._files[key.fd] = _identity(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change what a registered file is watched for, and its data; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE it asks for what is ready once more.
        """
        old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        if old is None or not (self._asks_more(events) or old.events & self._more):
            return super().modify(fileobj, events, data)
        if not events & _CONDITIONS:
            raise ValueError(f"Invalid events: {events!r}")
        if events == old.events and data == old.data and not events & (EDGE | ONESHOT):
            return old
        key = new_tuple(SelectorKey, (old.fileobj, old.fd, events, data))
        try:
            self._rewatch(key)
        except BaseException:
            self.unregister(fileobj)
            raise
        self._fd_to_key[key.fd] = key
        return key

    def _asks_more(self, events: int) -> bool:
        """Whether there is something in an event mask that the standard selectors do not know, and all is well."""
        return (
            isinstance(events, int)
            and events & ~BOTH != 0
            and events & ~(BOTH | self._more) == 0
            and events & _CONDITIONS != 0
        )

    def _watch(self, key: SelectorKey) -> None:
        """Begin to watch for more than the standard selectors do."""
        raise NotImplementedError

    def _rewatch(self, key: SelectorKey) -> None:
        """Watch for something else."""
        raise NotImplementedError

    def _drop_stale(self, fileobj: Any) -> None:
        """Unregister whatever holds the number of fileobj if that file was closed."""
        try:
            key = self._fd_to_key[fd := self._fileobj_lookup(fileobj)]
        except (KeyError, ValueError):
            return
        try:
            stale = not isinstance(key.fileobj, int) and key.fileobj.fileno() != fd
        except ValueError:  # a closed file object
            stale = True
        if stale or _identity(fd) != self._files.get(fd):
            self.unregister(fd)

    # Waking up

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns what is ready, usually nothing. Several calls before a select() can answer count as one.
        """
        self._wake_up().set()

    def _wake_up(self) -> WakeUp:
        """The descriptor that ends a wait; made by the first wakeup(), or the first wait that could need one."""
        if self._wake is None:
            self._wake = WakeUp()
            self._watch_wake_up(self._wake.fd)
        return self._wake

    def _watch_wake_up(self, fd: int) -> None:
        """Have select() end when fd can be read."""

    def _unwatch_wake_up(self, fd: int) -> None:
        """Undo it."""

    def close(self) -> None:
        """Forget all registrations and release the descriptors. May be repeated."""
        # Whoever is waiting holds on to the wake-up, and so closes it: it has to be open for as long.
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.set()
            self._unwatch_wake_up(wake.fd)
        super().close()
        self._files.clear()


class PollLike(Extended):
    """What PollSelector and EpollSelector have in common."""

    _selector: Any

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait, and return ``(key, events)`` for everything that is ready."""
        wake = self._wake_up() if timeout is None or timeout > 0 else None  # kept until the wait is over
        result = self._keys_of(self._ask(timeout))
        del wake
        return result

    def _ask(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait in the standard way; return pairs of descriptor and mask."""
        raise NotImplementedError

    def _keys_of(self, reported: Iterable[tuple[int, int]]) -> list[tuple[SelectorKey, int]]:
        result = []
        for fd, mask in reported:
            if key := self._fd_to_key.get(fd):
                result.append((key, found(key, mask)))
            elif self._wake is not None and fd == self._wake.fd:
                self._wake.clear()
        return result

    def _watch(self, key: SelectorKey) -> None:
        self._selector.register(key.fd, mask_of(key.events))

    def _rewatch(self, key: SelectorKey) -> None:
        self._selector.modify(key.fd, mask_of(key.events))

    def _watch_wake_up(self, fd: int) -> None:
        self._selector.register(fd, READ)


class PlainPoll(PollLike):
    """For PollSelector."""

    _more = EVENT_PRIORITY | PEER_CLOSED

    def _ask(self, timeout: float | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._selector.poll(
            None if timeout is None else math.ceil(max(timeout, 0) * 1e3)
        )
        return found

    def _unwatch_wake_up(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)


class PlainEpoll(PollLike):
    """For EpollSelector."""

    _more = EVENT_PRIORITY | PEER_CLOSED | EDGE | ONESHOT | EXCLUSIVE

    def _ask(self, timeout: float | None) -> list[tuple[int, int]]:
        seconds = -1 if timeout is None else math.ceil(max(timeout, 0) * 1e3) * 1e-3
        found: list[tuple[int, int]] = self._selector.poll(seconds, len(self._fd_to_key) + 1)
        return found

    def _rewatch(self, key: SelectorKey) -> None:
        self._selector.unregister(key.fd)  # EXCLUSIVE cannot be changed in place
        self._selector.register(key.fd, mask_of(key.events))
