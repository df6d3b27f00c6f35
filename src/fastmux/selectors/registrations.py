"""register(), unregister() and modify() of PollSelector and EpollSelector."""

from __future__ import annotations

from selectors import SelectorKey

from fastmux._binding import os_error
from fastmux._events import EDGE, ONESHOT, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from selectors import PollSelector
    from typing import Any, Final, NoReturn

    StandardSelector = PollSelector
else:
    StandardSelector = object

_INT_MAX: Final = (1 << 31) - 1

#: new_tuple(SelectorKey, (fileobj, fd, events, data)) makes a key without a Python call in between.
_new_tuple: Final[Callable[[type[SelectorKey], tuple[Any, int, int, Any]], SelectorKey]] = tuple.__new__

#: The masks of poll and epoll for EVENT_READ (1), EVENT_WRITE (2), and both.
MASKS: Final = (0, READ, WRITE, READ | WRITE)


class Registrations(StandardSelector):
    """A mixin before a standard selector. Unusual arguments are left to that.

    The key is in the map before the core has the descriptor, and leaves it before the core forgets it: a wait that finds
    a descriptor without a key drops its event.
    """

    #: The masks by events; empty if a subclass uses another poll or epoll object, so all goes the standard way.
    _masks: tuple[int, ...] = ()
    #: The calls that change the set. Their first two arguments are _mux and _table.
    _mux: Any = None
    _table: Any = None
    _add: Callable[[Any, Any, SelectorKey, int], int]
    _change: Callable[[Any, Any, SelectorKey, int], int]
    _rekey: Callable[[Any, Any, SelectorKey, int], int]
    _remove: Callable[[Any, Any, int], int]

    _fd_to_key: dict[int, SelectorKey]
    _fileobj_lookup: Callable[[Any], int]

    def _fail(self, result: int) -> NoReturn:
        """Raise the exception for a negative result of the core."""
        raise os_error(result)

    def _more_masks(self, events: Any) -> int:
        """Return the mask for events that the standard selectors do not have; 0 if this one neither."""
        return 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key.

        Raises KeyError if it is registered already, ValueError for a bad file or bad events, and OSError as the kernel
        does: EPERM for a regular file on epoll, EBADF for a descriptor that is not open.
        """
        keys = self._fd_to_key
        mask = 0
        try:
            fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
            if fd.__class__ is int and 0 <= fd <= _INT_MAX and fd not in keys and events >= 0:
                mask = self._masks[events]
        except (AttributeError, TypeError, ValueError):
            pass
        except IndexError:
            mask = self._more_masks(events)
        if not mask:  # the standard selector accepts it, or raises the right error
            return super().register(fileobj, events, data)
        keys[fd] = key = _new_tuple(SelectorKey, (fileobj, fd, events, data))
        try:
            if (result := self._add(self._mux, self._table, key, mask)) < 0:
                self._fail(result)
        except BaseException:  # KeyboardInterrupt, too: the kernel may already watch the descriptor
            self._undo(fd)
            raise
        return key

    def _undo(self, fd: int) -> None:
        self._fd_to_key.pop(fd, None)
        self._remove(self._mux, self._table, fd)

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching fileobj, which may be closed, and return its key. Raises KeyError if it is not registered."""
        keys = self._fd_to_key
        try:
            fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
            fd = keys[fd][1]  # an int, where fileno() may have returned True
        except (AttributeError, TypeError, ValueError, KeyError):
            fd = -1
        if fd < 0 or not self._masks:
            key = super().unregister(fileobj)
            if self._masks:
                self._remove(self._mux, self._table, key[1])
            return key
        try:
            key = keys.pop(fd)
            self._remove(self._mux, self._table, fd)
        except BaseException:  # KeyboardInterrupt, between the two
            self._undo(fd)
            raise
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change the events of a registered file, and its data; return the new key.

        On epoll, ONESHOT re-arms even if nothing changes, and EDGE reports the current readiness once more.

        Raises KeyError if it is not registered, and OSError as the kernel does, which also unregisters it.
        """
        keys = self._fd_to_key
        try:
            fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
            old = keys[fd]
            mask = self._masks[events] if events >= 0 else 0
        except (AttributeError, TypeError, ValueError, KeyError):
            mask = 0
        except IndexError:
            mask = self._more_masks(events)
        if not mask:
            return self._modify_standard(fileobj, events, data)
        if events == old[2] and not mask & (EDGE | ONESHOT):
            if not data != old[3]:  # noqa: SIM202 (as the standard selector compares)
                return old
            change = self._rekey
        else:
            change = self._change
        fd = old[1]
        key = _new_tuple(SelectorKey, (old[0], fd, events, data))
        try:
            if (result := change(self._mux, self._table, key, mask)) < 0:
                self._fail(result)
            keys[fd] = key
        except BaseException:
            self._undo(fd)
            raise
        return key

    def _modify_standard(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        """Call the standard modify(), and enter its result into the table."""
        if not self._masks:
            return super().modify(fileobj, events, data)
        old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        try:
            key = super().modify(fileobj, events, data)
            self._rekey(self._mux, self._table, key, 0)
        except BaseException:
            if old is not None and old.fd not in self._fd_to_key:
                self._remove(self._mux, self._table, old.fd)
            raise
        return key
