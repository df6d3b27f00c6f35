"""EpollSelector on the C core."""

from __future__ import annotations

from selectors import EVENT_READ, EVENT_WRITE, SelectorKey

from fastmux import _binding
from fastmux._binding import NOW, UNUSUAL, key_add, key_modify, key_remove, key_replace, selector, selector_wait
from fastmux._events import EDGE, EVENT_PRIORITY, EXCLUSIVE, ONESHOT, PEER_CLOSED, PRIORITY
from fastmux._original import selectors as _standard
from fastmux._timeouts import for_selector
from fastmux.poller.fork import apply_in_children, check_policy
from fastmux.select.epoll_object import EpollSet

from .registrations import MASKS, Registrations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import EpollSelector as _StandardEpoll
    from typing import Any, Final, NoReturn
else:
    _StandardEpoll = _standard.EpollSelector


_CONDITIONS: Final = EVENT_READ | EVENT_WRITE | EVENT_PRIORITY | PEER_CLOSED
_TRIGGERS: Final = EDGE | ONESHOT | EXCLUSIVE
_ALL: Final = _CONDITIONS | _TRIGGERS


class EpollSelector(Registrations, _StandardEpoll):
    """The standard EpollSelector, faster; its timeouts have a resolution of nanoseconds.

    register() and modify() also take EVENT_PRIORITY, ``fastmux.PEER_CLOSED``, ``EDGE``, ``ONESHOT`` and ``EXCLUSIVE``.
    fork is the policy for a child process, as for ``fastmux.Poller``; the default shares the set, as the standard class
    does.
    """

    _selector: Any

    def _selector_cls(self) -> EpollSet:
        #: tag -> key, or (key, events) once that was reported. Changed together with the core, see calls.h.
        self._table: list[Any] = []
        return EpollSet(self._table, self._fd_to_key)

    _change = staticmethod(key_modify)
    _rekey = staticmethod(key_replace)
    _remove = staticmethod(key_remove)

    def __init__(self, *, fork: str = "share") -> None:
        self._fork = check_policy(fork)
        super().__init__()
        if type(self._selector) is EpollSet:
            self._mux, self._masks = self._selector._mux, MASKS
        if fork != "share":
            apply_in_children(self)
        if fork == "rebuild" and self._mux is not None:
            _binding.set_shared(self._mux, False)  # the core makes the child's set

    def _after_fork(self) -> None:
        """Do nothing: the core has done it."""

    def _add(self, mux: Any, table: Any, key: SelectorKey, mask: int) -> int:
        if (tag := key_add(mux, table, key, mask)) >= self._selector._room:
            self._selector._grow(2 * tag)
        return tag

    def _fail(self, result: int) -> NoReturn:
        self._selector._fail(result)

    def _more_masks(self, events: Any) -> int:
        if not (self._masks and isinstance(events, int)) or not events & _CONDITIONS or events & ~_ALL:
            return 0
        mask: int = MASKS[events & 3] | events & (PEER_CLOSED | _TRIGGERS)
        return mask | PRIORITY if events & EVENT_PRIORITY else mask

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for each ready file."""
        try:
            array = self._selector._ready
        except AttributeError:  # a subclass uses another epoll object
            return super().select(timeout)
        result = selector(array) if timeout is NOW else selector_wait(array, timeout)
        if result.__class__ is list:
            return result  # type: ignore[no-any-return]
        if result == UNUSUAL:
            timeout = for_selector(timeout, lambda ms: self._selector._arguments(ms * 1e-3, -1))
        return self._selector._wait_again(selector_wait, timeout)  # type: ignore[no-any-return]

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns the ready files, usually none. Calls that no select() has consumed yet count as one.
        """
        if (result := _binding.wakeup(self._mux)) < 0:
            self._selector._fail(result)

    def close(self) -> None:
        """Drop all registrations, end all waits, and release the descriptors. Idempotent."""
        super().close()
        if self._table:
            self._table.clear()
