"""The base of Poller and StdlibPoller: arguments, look-ups in the map of keys, and the documentation of both.

A subclass provides everything that raises NotImplementedError here.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Mapping

from fastmux import _binding
from fastmux._events import READ
from fastmux._original import SelectorKey

from .fork import check_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, ValuesView
    from typing import Any, Final, NoReturn, TypeAlias, TypeVar

    from .audit import Difference, Entry, Stats

    FileObject: TypeAlias = Any  # an int, or an object with a fileno() method
    _Self = TypeVar("_Self", bound="BasePoller")
    _KeyMapping = Mapping[FileObject, SelectorKey]
else:
    _KeyMapping = Mapping

_MAX_CAPACITY: Final = 1 << 24
#: The default of data in modify().
UNCHANGED: Final[Any] = _binding.UNCHANGED


def fileno_of(fileobj: FileObject) -> int:
    """Return the file descriptor of fileobj, an int or an object with a ``fileno()`` method."""
    if fileobj.__class__ is int:
        fd = fileobj
    elif isinstance(fileobj, int):
        fd = int.__int__(fileobj)  # a bool, or a subclass with methods of its own
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"invalid file descriptor: {fd}")
    return fd


def check_capacity(capacity: int) -> int:
    """Return capacity as an int if it is possible, else raise TypeError or ValueError."""
    capacity = operator.index(capacity)
    if not 1 <= capacity <= _MAX_CAPACITY:
        raise ValueError(f"capacity must be between 1 and {_MAX_CAPACITY}, not {capacity}")
    return capacity


def check_maxevents(maxevents: int) -> int:
    """Return maxevents as an int if it is positive or -1, else raise as ``select.epoll.poll`` does."""
    maxevents = operator.index(maxevents)
    if maxevents != -1 and maxevents < 1:
        raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
    return maxevents


def no_fileno(mechanism: str) -> OSError:
    """Return the exception of fileno() for a mechanism without a descriptor."""
    return io.UnsupportedOperation(f"{mechanism} has no descriptor of its own, only epoll has")


class KeyMap(_KeyMapping):
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

    # Snapshots: unregister() in another thread would otherwise be a KeyError during the iteration.

    def items(self) -> ItemsView[FileObject, SelectorKey]:
        return self._poller._keys.copy().items()

    def values(self) -> ValuesView[SelectorKey]:
        return self._poller._keys.copy().values()


class BasePoller:
    """Registrations, independent of the mechanism."""

    #: Found sooner than in a dict, and made sooner: most pollers need no dict.
    __slots__ = ("__dict__", "__weakref__", "_fork", "_keys", "closed", "mechanism")

    #: The mechanisms of this class on this system, the best first.
    mechanisms: tuple[str, ...] = ()

    def __init__(self, mechanism: str | None, fork: str) -> None:
        if mechanism is None:
            mechanism = self.mechanisms[0]
        elif not isinstance(mechanism, str) or mechanism not in self.mechanisms:
            raise ValueError(f"mechanism must be one of {', '.join(self.mechanisms)}, or None; not {mechanism!r}")
        #: "epoll", "poll" or "select".
        self.mechanism: Final = mechanism
        #: True once close() has been called.
        self.closed: bool = False
        self._keys: dict[int, SelectorKey] = {}
        self._fork = fork if fork == "rebuild" else check_policy(fork)

    def _check_open(self) -> None:
        if self.closed:
            _binding.closed()

    @property
    def capacity(self) -> int:
        """The most events that one wait can report; doubles when more descriptors than that are registered."""
        raise NotImplementedError

    # Registrations

    def register(self, fileobj: FileObject, events: int = READ, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with ``fileno()``) for events, and return its key.

        events is any of READ, WRITE, PRIORITY and PEER_CLOSED, with EDGE, ONESHOT or EXCLUSIVE if the
        mechanism supports them; 0 pauses. ERROR and HANGUP are always reported. The key returns data unchanged.
        The constants of ``selectors`` differ: EVENT_WRITE is 2, which is PRIORITY here.

        Raises KeyError if the descriptor is registered already, ValueError for a bad file object or events
        that the mechanism does not support, PermissionError for a regular file on epoll, and OSError as the
        kernel does: EBADF for a descriptor that is not open, ENOSPC at the user's limit of watches.
        """
        raise NotImplementedError

    def modify(self, fileobj: FileObject, events: int, data: Any = UNCHANGED) -> SelectorKey:
        """Change the events of a registered fileobj, and its data if given; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE the kernel reports the current readiness
        once more. Otherwise unchanged events cost no system call.

        Raises KeyError if fileobj is not registered, ValueError for events that the mechanism does not support, and
        on epoll FileNotFoundError, OSError (EBADF) or PermissionError (its number is a regular file now) if the file
        was closed without being unregistered, which also unregisters it.
        """
        raise NotImplementedError

    def unregister(self, fileobj: FileObject) -> SelectorKey:
        """Stop watching fileobj, which may be closed, and return its key. Raises KeyError if it is not registered."""
        raise NotImplementedError

    def _find(self, fileobj: FileObject) -> SelectorKey:
        """Return the key of fileobj, which may be closed and so have no descriptor."""
        self._check_open()
        try:
            fd = fileno_of(fileobj)
        except ValueError:
            for key in list(self._keys.values()):  # threads and signal handlers change it
                if key.fileobj is fileobj:
                    return key
            raise
        try:
            return self._keys[fd]
        except KeyError:
            self._check_open()  # fileno() may have closed this poller
            raise KeyError(f"{fileobj!r} is not registered") from None

    def get_key(self, fileobj: FileObject) -> SelectorKey:
        """Return the key of a registered file object or descriptor; KeyError if it is not registered."""
        return self._find(fileobj)

    def get_map(self) -> Mapping[FileObject, SelectorKey]:
        """Return a live, read-only mapping from file objects (or descriptors) to keys."""
        self._check_open()
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
        return True  # also without registrations

    # Waiting

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait, and return ``(fd, events)`` for each ready descriptor, at most maxevents of them (-1: all).

        timeout is in seconds: None waits for ever, 0 or less does not wait. The list is empty after the
        timeout or a wakeup(). events may contain ERROR and HANGUP (and POLLNVAL for a closed descriptor on poll)
        besides the registered events. If maxevents cuts a result short, the next call continues with the rest.

        Raises ValueError on a closed poller, also if another thread closes it during the wait. An exception from a
        signal handler ends the wait; if the signal arrives after the sleep, it may lose edges, one-shot events and a
        wake-up.
        """
        raise NotImplementedError

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait as poll() does, and return ``(key, events)`` for each ready descriptor."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> int:
        """Wait as poll() does, and return the number n of events, which are in ``fds[:n]`` and ``events[:n]``.

        This makes no object per event: it is the cheapest of the three. Each thread has its own arrays.
        """
        raise NotImplementedError

    @property
    def fds(self) -> memoryview:
        """The descriptors found by this thread's last wait(): capacity ints (format "i"), not copied.

        The next wait() of this thread overwrites them, or replaces them if the capacity has grown: read the
        attribute again after each wait(). A view that is kept stays valid memory.
        """
        raise NotImplementedError

    @property
    def events(self) -> memoryview:
        """The event masks of fds: capacity unsigned ints (format "I"), not copied."""
        raise NotImplementedError

    def wakeup(self) -> None:
        """End one wait, from any thread or a signal handler: the one in progress, else the next one.

        The wait returns the ready descriptors, usually none. Calls that no wait has consumed yet count as one.

        Python runs a signal handler between two bytecodes. If a signal arrives after the last bytecode before a wait
        sleeps, its handler, and so the wakeup() in it, runs after the wait. ``signal.set_wakeup_fd()`` has no such
        gap: register its other end, as Stop in examples/serving.py does.
        """
        raise NotImplementedError

    def fileno(self) -> int:
        """Return the descriptor of the epoll set. Another poller can watch it: it is readable when a file is ready.

        Raises io.UnsupportedOperation (an OSError and a ValueError) on poll and select, which have none.
        """
        raise NotImplementedError

    # Inspection

    def stats(self) -> Stats:
        """Return the counters of this poller. Works on a closed poller."""
        raise NotImplementedError

    def audit(self) -> list[Difference]:
        """Compare the registrations with the kernel's set, and return the differences.

        On epoll the set is read from /proc/self/fdinfo. On poll and select, which have no set in the kernel, only
        closed files are found. To avoid differences, unregister a file before closing it.

        Raises FileNotFoundError on epoll where there is no /proc.
        """
        from .audit import closed_files, compare

        self._check_open()
        keys, entries = self._snapshot()
        return closed_files(keys) if entries is None else compare(keys, entries)

    def _snapshot(self) -> tuple[dict[int, SelectorKey], list[Entry] | None]:
        """Return the keys and, on epoll, the entries of the set without the poller's own, of one moment."""
        raise NotImplementedError

    # End of life

    def close(self) -> None:
        """Drop all registrations, end all waits with a ValueError, and release the descriptors. Idempotent."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        self.get_map()  # raises on a closed poller
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse copies and pickles: both would own the same descriptors."""
        raise TypeError(f"cannot pickle '{type(self).__name__}' object")

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} registered"
        return f"<{type(self).__module__.split('.')[0]}.{type(self).__name__} {self.mechanism}, {state}>"
