"""What the selectors here can do beyond the standard ones, whatever they wait with.

Mixins to put before a standard selector: more events, a wake-up, and healing. What they do not touch is left to the
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

from ._checks import EDGE, ERROR, EXCLUSIVE, HANGUP, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE, new_tuple
from ._forks import check_policy, remember
from ._stdlib import WakeUp
from ._wakeups import Wakeable

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
    if not ~BOTH & key.events or key.events < 0:
        # The standard selectors' way: whatever is not plainly the one may be the other.
        return ((mask & ~READ and EVENT_WRITE) | (mask & ~WRITE and EVENT_READ)) & key.events
    if mask & _BROKEN:
        return _CONDITIONS & key.events
    events = (mask & READ and EVENT_READ) | (mask & WRITE and EVENT_WRITE) | mask & PEER_CLOSED
    return (events | EVENT_PRIORITY if mask & PRIORITY else events) & key.events


def identity(fd: int) -> tuple[int, ...] | None:
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

    fork: what becomes of the selector in a child after os.fork(), as for Poller; but the standard selectors, and these
    unless told otherwise, share with the child what the kernel shares.
    """

    #: Which events this selector takes beyond EVENT_READ and EVENT_WRITE.
    _more = 0
    #: Whether _watch() is to be called for everything, and not only for more events.
    _keeps_table = False

    _fd_to_key: dict[int, SelectorKey]
    _fileobj_lookup: Any

    #: If healing: descriptor -> identity().
    _files: dict[int, Any] | None = None

    def __init__(self, *, heal: bool = False, fork: str = "share") -> None:
        super().__init__()
        if heal:
            self._files = {}
        self._fork = check_policy(fork)
        if fork != "share":
            remember(self)

    def _after_fork(self) -> None:
        """See Forkable. A list that the kernel copies for each wait is shared with nobody."""

    # Registrations

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key."""
        if self._files is not None:
            self._drop_stale(fileobj, self._files)
        more = self._asks_more(events)
        if more or self._keeps_table:
            # First in the standard way, for its checks; then for what is really wanted.
            key = _standard_register(self, fileobj, EVENT_READ if more else events, data)
            self._fd_to_key[key.fd] = key = new_tuple(SelectorKey, (*key[:2], events, data))
            try:
                self._watch(key)
            except BaseException:
                del self._fd_to_key[key.fd]
                raise
        else:
            key = super().register(fileobj, events, data)
        if self._files is not None:
            self._files[key.fd] = identity(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change what a registered file is watched for, and its data; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE it asks for what is ready once more.
        """
        old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        if old is None or not (self._asks_more(events) or self._asks_more(old.events)):
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

    def _drop_stale(self, fileobj: Any, files: dict[int, Any]) -> None:
        """Unregister whatever holds the number of fileobj if that file was closed."""
        try:
            key = self._fd_to_key[fd := self._fileobj_lookup(fileobj)]
        except (KeyError, ValueError):
            return
        try:
            stale = not isinstance(key.fileobj, int) and key.fileobj.fileno() != fd
        except ValueError:  # a closed file object
            stale = True
        if stale or identity(fd) != files.get(fd):
            self.unregister(fd)


class PollLike(Extended):
    """What PollSelector and EpollSelector have in common."""

    _selector: Any
    _selector_cls: Any

    def _keys_of(self, reported: Iterable[tuple[int, int]]) -> list[tuple[SelectorKey, int]]:
        """Build the result of select() from pairs of descriptor and mask."""
        keys = self._fd_to_key
        return [(key, found(key, mask)) for fd, mask in reported if (key := keys.get(fd))]

    def _watch(self, key: SelectorKey) -> None:
        self._selector.register(key.fd, mask_of(key.events))

    def _rewatch(self, key: SelectorKey) -> None:
        self._selector.modify(key.fd, mask_of(key.events))


class PlainPoll(Wakeable, PollLike):
    """For PollSelector."""

    _more = EVENT_PRIORITY | PEER_CLOSED

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for everything that is ready."""
        ms = -1 if timeout is None else 0 if timeout <= 0 else math.ceil(timeout * 1e3)
        if not -1 <= ms < 1 << 31:
            self._selector.poll(ms)  # says that it is too large
        if ms == 0:
            self._woken = False
            return self._keys_of(self._selector.poll(0))
        return self._keys_of(self._wait(ms * 1_000_000, self._ask))

    def _ask(self, ns: int, wake_fd: int) -> list[tuple[int, int]]:
        if wake_fd >= 0:
            self._selector.register(wake_fd, READ)
        try:
            reported: list[tuple[int, int]] = self._selector.poll(None if ns < 0 else ns / 1e6)
        finally:
            if wake_fd >= 0:
                self._selector.unregister(wake_fd)
        return reported


class PlainEpoll(PollLike):
    """For EpollSelector."""

    _more = EVENT_PRIORITY | PEER_CLOSED | EDGE | ONESHOT | EXCLUSIVE

    _wake: WakeUp | None = None

    def __init__(self, *, heal: bool = False, fork: str = "share") -> None:
        super().__init__(heal=heal, fork=fork)
        self._waits: list[None] = []  # one for each in progress

    def _after_fork(self) -> None:
        """Have an epoll set of our own, with what is registered and still open."""
        self._waits = []
        self._wake = None
        if self._fork == "rebuild":
            self._selector.close()  # the child's descriptor of it
            self._selector = type(self)._selector_cls()
            for key in self._fd_to_key.values():
                with contextlib.suppress(OSError):
                    self._watch(key)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for everything that is ready."""
        seconds = -1 if timeout is None else 0 if timeout <= 0 else math.ceil(timeout * 1e3) * 1e-3
        self._waits.append(None)
        try:
            reported = self._selector.poll(seconds, len(self._fd_to_key) + 1)
        finally:
            self._waits.pop()
        if self._wake is not None and any(fd == self._wake.fd for fd, _ in reported):
            self._wake.clear()
        return self._keys_of(reported)

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns what is ready, usually nothing. Several calls before a select() can answer count as one.
        """
        if self._wake is None:
            self._wake = WakeUp()
            # Into the set, even while another thread waits on that.
            self._selector.register(self._wake.fd, READ)
        self._wake.set()

    def _rewatch(self, key: SelectorKey) -> None:
        self._selector.unregister(key.fd)  # EXCLUSIVE cannot be changed in place
        self._selector.register(key.fd, mask_of(key.events))

    def close(self) -> None:
        """Forget all registrations and release the descriptors. May be repeated."""
        if self._waits:
            self.wakeup()  # its descriptor has to be open until the wait is over: it goes with this object
        elif self._wake is not None:
            self._wake.close()
            self._wake = None
        super().close()
