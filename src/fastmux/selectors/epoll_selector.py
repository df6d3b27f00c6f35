"""EpollSelector on the C core. register() and modify() are in registrations.py, except for the events added here."""

from __future__ import annotations

from selectors import EVENT_READ, EVENT_WRITE

from fastmux import _binding
from fastmux._binding import NO_ARRAY, NOW, UNUSUAL, Waits, selector_now, selector_wait
from fastmux._events import EDGE, EVENT_PRIORITY, EXCLUSIVE, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE
from fastmux._original import SelectorKey
from fastmux._original import selectors as _standard
from fastmux._timeouts import for_selector
from fastmux.poller.fork import apply_in_children, check_policy

from .epoll_set import EpollSet
from .registrations import Registrations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn


_CONDITIONS: Final = EVENT_READ | EVENT_WRITE | EVENT_PRIORITY | PEER_CLOSED
_TRIGGERS: Final = EDGE | ONESHOT | EXCLUSIVE
_ALL: Final = _CONDITIONS | _TRIGGERS
#: Rows of the first ready array; a full set makes a larger one.
_FIRST_ROOM: Final = 64
#: The masks for EVENT_READ (1), EVENT_WRITE (2), and both.
_MASKS: Final = (0, READ, WRITE, READ | WRITE)


class EpollSelector(Registrations, Waits, _standard.EpollSelector):
    """The standard EpollSelector, faster; its timeouts have a resolution of nanoseconds.

    register() and modify() also take EVENT_PRIORITY, ``fastmux.PEER_CLOSED``, ``EDGE``, ``ONESHOT`` and ``EXCLUSIVE``.
    fork is the policy for a child process, as for ``fastmux.Poller``; the default shares the set, as the standard class
    does.
    """

    _selector: Any

    def _selector_cls(self) -> EpollSet:
        return EpollSet(self._fd_to_key)

    def __init__(self, *, fork: str = "share") -> None:
        self._fork = check_policy(fork)
        super().__init__()
        epoll_set = self._selector
        if type(epoll_set) is EpollSet:
            self._start(epoll_set.mux, _FIRST_ROOM, epoll_set.context)
            self._table = epoll_set.table
        else:  # a subclass uses another epoll object
            self._mux = self._context = None
            self._ready = NO_ARRAY
        if fork != "share":
            apply_in_children(self, EpollSelector.close)
        if fork == "rebuild" and self._mux is not None:
            _binding.set_shared(self._mux, False)  # the core makes the child's set

    def _after_fork(self) -> None:
        """Do nothing: the core detaches the child from the parent."""

    def _fail(self, result: int) -> NoReturn:
        raise self._selector.fail(result)

    # Unusual arguments

    def _mask(self, events: Any) -> int:
        """Return the mask for events that the standard selectors do not have; 0 for all others."""
        if self._mux is None or not isinstance(events, int) or not events & _CONDITIONS or events & ~_ALL:
            return 0
        mask: int = _MASKS[events & 3] | events & (PEER_CLOSED | _TRIGGERS)
        if events & EVENT_PRIORITY:
            mask |= PRIORITY
        return mask if events & ~3 else 0

    def _register(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        if not (mask := self._mask(events)):
            return super()._register(fileobj, events, data)
        fd = self._fileobj_lookup(fileobj)
        if fd in self._fd_to_key:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._fd_to_key[fd] = key = SelectorKey(fileobj, fd, events, data)
        try:
            if (result := _binding.key_add(self._mux, self._table, key, mask)) < 0:
                self._fail(result)
        except BaseException:  # KeyboardInterrupt, too: the kernel may already watch the descriptor
            self._drop(fd)
            raise
        return key

    def _modify(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        if self._mux is None or old is None:
            return super()._modify(fileobj, events, data)
        mask = self._mask(events) or (self._mask(old.events) and _MASKS[events & 3])
        if not mask:
            try:
                return super()._modify(fileobj, events, data)
            finally:
                _binding.key_replace(self._mux, self._table, old.fd, None)  # waits find the key in the map of keys
        key = SelectorKey(old.fileobj, old.fd, events, data)
        try:
            if events != old.events or events & (EDGE | ONESHOT):
                if (result := _binding.key_modify(self._mux, self._table, key, mask)) < 0:
                    self._fail(result)
            elif data == old.data:
                return old
            else:
                _binding.key_replace(self._mux, self._table, key.fd, key)
            self._fd_to_key[key.fd] = key
        except BaseException:
            self._drop(key.fd)
            raise
        return key

    def _drop(self, fd: int) -> None:
        """Unregister a descriptor, even if the kernel, the table of pairs and the map of keys disagree about it."""
        self._fd_to_key.pop(fd, None)
        _binding.key_remove(self._mux, self._table, fd)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for each ready file."""
        result = selector_now(self._ready) if timeout is NOW else selector_wait(self._ready, timeout)
        return result if result.__class__ is list else self._select(result, timeout)

    def _select(self, result: float, timeout: Any) -> list[tuple[SelectorKey, int]]:
        """Slow path of select(): the first wait, a busy or small array, an unusual timeout, another epoll object."""
        if self._mux is None:
            return super().select(timeout)
        if result.__class__ is float:
            timeout = result  # the rest
        elif result == UNUSUAL:
            timeout = for_selector(timeout, lambda ms: self._selector.refuse(ms * 1e-3))
        return self._wait_again(selector_wait, timeout)  # type: ignore[no-any-return]

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns the ready files, usually none. Calls that no select() has consumed yet count as one.
        """
        if (result := _binding.wakeup(self._mux)) < 0:
            self._selector.fail(result)


EpollSelector.__module__ = "fastmux.selectors"  # for pickle
