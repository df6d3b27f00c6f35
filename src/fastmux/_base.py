"""What Poller and StdlibPoller share: the table of registrations.

A mechanism shows up here as four methods that a subclass provides (``_watch``, ``_rewatch``, ``_unwatch``,
``_close``), beside the public ``poll``, ``select``, ``wait``, ``wakeup`` and ``fileno``.
"""

from __future__ import annotations

import errno
import operator
import threading
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from selectors import SelectorKey
from typing import Any, Final, TypeVar

from ._checks import (
    EDGE,
    INT_MAX,
    MAX_CAPACITY,
    ONESHOT,
    READ,
    FileObject,
    check_events,
    closed,
    descriptor,
    new_tuple,
)
from ._forks import check_policy, remember
from ._inspection import Difference, Stats, Watched, closed_files, compare

_UNCHANGED: Final[Any] = object()
_Self = TypeVar("_Self", bound="BasePoller")


class KeyMap(Mapping[FileObject, SelectorKey]):
    """The registrations of a poller, live: file object or descriptor -> key. Iterates over descriptors."""

    def __init__(self, poller: BasePoller) -> None:
        self._poller = poller

    def __len__(self) -> int:
        return len(self._poller)

    def __getitem__(self, fileobj: FileObject) -> SelectorKey:
        return self._poller.get_key(fileobj)

    def __contains__(self, fileobj: object) -> bool:
        return fileobj in self._poller

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._poller._keys))

    # As they are now: else, what another thread unregisters would be a KeyError in the middle.

    def items(self) -> ItemsView[FileObject, SelectorKey]:
        return self._poller._keys.copy().items()

    def values(self) -> ValuesView[SelectorKey]:
        return self._poller._keys.copy().values()


class BasePoller:
    """Registrations, and everything about them that does not depend on how waiting is done."""

    #: The mechanisms of this class on this system, the best first.
    mechanisms: tuple[str, ...] = ()

    def __init__(self, mechanism: str | None = None, *, capacity: int = 1024, fork: str = "rebuild") -> None:
        if mechanism is None:
            mechanism = self.mechanisms[0]
        elif not isinstance(mechanism, str) or mechanism not in self.mechanisms:
            raise ValueError(f"mechanism must be one of {', '.join(self.mechanisms)}, or None; not {mechanism!r}")
        capacity = operator.index(capacity)
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"capacity must be between 1 and {MAX_CAPACITY}, not {capacity}")
        #: "epoll", "poll" or "select".
        self.mechanism: Final = mechanism
        #: How many events one wait can report; doubles when more descriptors than that are registered.
        self.capacity: int = capacity
        #: True once close() has been called.
        self.closed: bool = False
        # Guards _keys and what subclasses derive from it, and the counters. Re-entrant, because a signal handler may
        # use the poller while the code that it interrupts holds the lock.
        self._lock = threading.RLock()
        self._keys: dict[int, SelectorKey] = {}
        self._growths = 0
        self._avoided = 0  # changes that changed nothing
        self._fork = check_policy(fork)
        remember(self)

    # What a mechanism provides; called with the lock held.

    def _watch(self, key: SelectorKey) -> None:
        """Begin to watch, or raise OSError."""
        raise NotImplementedError

    def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
        """Watch the same descriptor for other events, or re-arm it, or have other data, or raise OSError."""
        raise NotImplementedError

    def _unwatch(self, fd: int) -> None:
        """Stop watching fd, whatever has become of it."""
        raise NotImplementedError

    def _grow(self) -> None:
        """Make room for the new capacity."""

    def _close(self) -> None:
        """End all waits, and release everything once they have ended."""
        raise NotImplementedError

    def _watched(self) -> list[Watched]:
        """What the kernel has in the epoll set, without what is ours."""
        raise NotImplementedError

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread of the parent may have held the old one

    # Registrations

    def register(self, fileobj: FileObject, events: int = READ, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with ``fileno()``) for events, and return its key.

        events is any of READ, WRITE, PRIORITY and PEER_CLOSED, with EDGE, ONESHOT or EXCLUSIVE if the
        mechanism can do them; 0 pauses. ERROR and HANGUP are reported without being asked for. data is
        yours; it comes back in the key.

        Raises KeyError if the descriptor is registered already, ValueError for a bad file object or events
        that the mechanism cannot watch for, PermissionError for a regular file on epoll, and OSError as the
        kernel does: EBADF for a descriptor that is not open, ENOSPC at the user's limit of watches.
        """
        fd = descriptor(fileobj)
        if fd > INT_MAX:
            raise OverflowError(f"file descriptor {fd} does not fit a C int")
        events = check_events(self.mechanism, events)
        with self._lock:
            if self.closed:
                closed()
            if (key := self._keys.get(fd)) is not None:
                raise KeyError(f"{fileobj!r} (FD {fd}) is already registered, for {key.fileobj!r}")
            self._keys[fd] = key = new_tuple(SelectorKey, (fileobj, fd, events, data))
            try:
                self._watch(key)
            except BaseException:
                # KeyboardInterrupt, too: it may come after the kernel has agreed.
                del self._keys[fd]
                self._unwatch(fd)
                raise
            if len(self._keys) > self.capacity:
                self.capacity *= 2
                self._growths += 1
                self._grow()
        return key

    def modify(self, fileobj: FileObject, events: int, data: Any = _UNCHANGED) -> SelectorKey:
        """Change what a registered fileobj is watched for, and its data if given; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE it asks the kernel to report what
        is ready once more. Otherwise events that stay the same cost no system call.

        Raises KeyError if fileobj is not registered, ValueError for events that the mechanism cannot watch
        for, and on epoll FileNotFoundError, OSError (EBADF) or PermissionError (its number is a regular file now)
        if the file was closed without being unregistered; it is not registered any more then.
        """
        events = check_events(self.mechanism, events)
        with self._lock:
            key = self._find(fileobj)
            if data is _UNCHANGED:
                data = key.data
            if events == key.events and data is key.data and not events & (EDGE | ONESHOT):
                self._avoided += 1
                return key
            new = new_tuple(SelectorKey, (key.fileobj, key.fd, events, data))
            try:
                self._rewatch(key, new)
                self._keys[key.fd] = new
            except BaseException as error:
                # After KeyboardInterrupt, too: it may come before the kernel has agreed, or after.
                if not isinstance(error, OSError) or error.errno in (errno.ENOENT, errno.EBADF, errno.EPERM):
                    self._drop(key.fd)
                raise
        return new

    def unregister(self, fileobj: FileObject) -> SelectorKey:
        """Stop watching fileobj and return its key. It may have been closed meanwhile.

        Raises KeyError if it is not registered.
        """
        with self._lock:
            key = self._find(fileobj)
            self._drop(key.fd)
        return key

    def _drop(self, fd: int) -> None:
        self._unwatch(fd)
        del self._keys[fd]

    def _find(self, fileobj: FileObject) -> SelectorKey:
        """Return the key of fileobj, which may have been closed and so have lost its descriptor."""
        if self.closed:
            closed()
        try:
            fd = descriptor(fileobj)
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key
            raise
        try:
            return self._keys[fd]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def get_key(self, fileobj: FileObject) -> SelectorKey:
        """Return the key of a registered file object or descriptor; KeyError if it is not registered."""
        with self._lock:
            return self._find(fileobj)

    def get_map(self) -> Mapping[FileObject, SelectorKey]:
        """Return a live, read-only mapping from file objects (or descriptors) to keys."""
        if self.closed:
            closed()
        return KeyMap(self)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, fileobj: object) -> bool:
        try:
            self.get_key(fileobj)
        except (KeyError, ValueError):
            return False
        return True

    def __bool__(self) -> bool:
        return True  # an empty poller is a poller

    # Waiting

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait, and return ``(fd, events)`` for what is ready, at most maxevents of them (-1: all).

        timeout is in seconds: None waits for ever, 0 or less does not wait. The list is empty after the
        timeout or a wakeup(). events may hold ERROR, HANGUP (and, for a dead descriptor on poll, POLLNVAL)
        besides what was asked for. When maxevents cuts a result short, the next call goes on with the rest.

        Raises ValueError on a closed poller, also if it is closed by another thread meanwhile.
        """
        raise NotImplementedError

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait as poll() does, and return ``(key, events)`` for everything that is ready."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> int:
        """Wait as poll() does, and return the number n of events; ``fds[:n]`` and ``events[:n]`` hold them.

        Nothing is built per event: this is the cheapest of the three. Each thread has its own arrays.
        """
        raise NotImplementedError

    @property
    def fds(self) -> memoryview:
        """The descriptors that this thread's last wait() found: capacity ints (format "i"), not copied.

        The next wait() of this thread overwrites them, or replaces them if the capacity has grown: take the
        attribute anew after each wait(). A view that you keep stays valid memory.
        """
        raise NotImplementedError

    @property
    def events(self) -> memoryview:
        """The event masks that belong to fds: capacity unsigned ints (format "I"), not copied."""
        raise NotImplementedError

    def wakeup(self) -> None:
        """End one wait, from any thread or a signal handler: the one in progress, else the next one.

        It returns what is ready, usually nothing. Several calls before a wait can answer count as one.

        Python runs a signal handler between two steps of its own. If the signal comes after the last one before a wait
        begins to sleep, the handler, and so its wakeup(), comes after the wait. ``signal.set_wakeup_fd()`` knows no
        such gap: register the other end of that, as Stop in examples/serving.py does.
        """
        raise NotImplementedError

    def fileno(self) -> int:
        """Return the descriptor of the epoll set, which can itself be watched; it is readable when something is ready.

        Raises io.UnsupportedOperation (an OSError and a ValueError) on poll and select, which have none.
        """
        raise NotImplementedError

    # Inspection

    def stats(self) -> Stats:
        """Return what this poller has done so far, in numbers. They are always counted; also of a closed poller."""
        raise NotImplementedError

    def audit(self) -> list[Difference]:
        """Compare the registrations with what the kernel watches, and return what differs: nothing, if all is well.

        On epoll that is read from /proc/self/fdinfo; on poll and select, which have no set in the kernel, only closed
        files can be found. What to do about a difference: unregister closed files before they are closed.

        Raises FileNotFoundError on epoll where there is no /proc.
        """
        with self._lock:
            if self.closed:
                closed()
            return compare(self._keys, self._watched()) if self.mechanism == "epoll" else closed_files(self._keys)

    # End of life

    def close(self) -> None:
        """Forget all registrations, end all waits with a ValueError, and release the descriptors. May be repeated."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._close()
            self._keys.clear()

    def __enter__(self: _Self) -> _Self:
        self.get_map()  # is it open?
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} registered"
        return f"<{type(self).__module__.split('.')[0]}.{type(self).__name__} {self.mechanism}, {state}>"
