"""register(), unregister() and modify() of PollSelector and EpollSelector.

With the usual arguments each is one call of the extension (csrc/python/registrations.c), which returns a key. It
returns an int for an error of the kernel, and for unusual arguments. These go to _register() or _modify():
EpollSelector handles its additional events there (EDGE, for example), the standard selector everything else.
"""

from __future__ import annotations

from fastmux._binding import UNUSUAL, file_modify, file_register, file_unregister, os_error
from fastmux._original import SelectorKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import PollSelector as StandardSelector
    from typing import Any, NoReturn
else:
    StandardSelector = object


class Registrations(StandardSelector):
    """A mixin in front of a standard selector."""

    #: None if a subclass uses another poll or epoll object: then the standard selector makes every call.
    _context: Any

    _fd_to_key: dict[int, SelectorKey]
    _fileobj_lookup: Any

    def _fail(self, result: int) -> NoReturn:
        """Raise the exception for a negative result of the core."""
        raise os_error(result)

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key.

        Raises KeyError if it is registered already, ValueError for a bad file or bad events, and OSError as the kernel
        does: EPERM for a regular file on epoll, EBADF for a descriptor that is not open.
        """
        key = file_register(self._context, fileobj, events, data)
        if key.__class__ is SelectorKey:
            return key
        return self._register(fileobj, events, data) if key == UNUSUAL else self._fail(key)

    def _register(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        """Register with unusual arguments."""
        return super().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching fileobj, which may be closed, and return its key. Raises KeyError if it is not registered."""
        key = file_unregister(self._context, fileobj)
        return key if key.__class__ is SelectorKey else super().unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change the events of a registered file, and its data; return the new key.

        On epoll, ONESHOT re-arms even if nothing changes, and EDGE reports the current readiness once more.

        Raises KeyError if it is not registered, and OSError as the kernel does, which also unregisters it.
        """
        key = file_modify(self._context, fileobj, events, data)
        if key.__class__ is SelectorKey:
            return key
        if key == UNUSUAL:
            return self._modify(fileobj, events, data)
        self.unregister(fileobj)
        return self._fail(key)

    def _modify(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        """Modify with unusual arguments."""
        return super().modify(fileobj, events, data)
