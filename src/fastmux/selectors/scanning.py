"""SelectSelector and PollSelector: the standard ones, on select() and poll() of ``fastmux.select``."""

from __future__ import annotations

from selectors import SelectorKey

from fastmux import select as _select
from fastmux._binding import BUSY, UNUSUAL, os_error, poll_keys
from fastmux._original import selectors as _standard
from fastmux._timeouts import for_poll, for_selector
from fastmux.select.poll_object import PollSet, make_set

from .registrations import MASKS, Registrations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import PollSelector as _StandardPoll
    from selectors import SelectSelector as _StandardSelect
    from typing import Any
else:
    _StandardSelect = _standard.SelectSelector
    _StandardPoll = getattr(_standard, "PollSelector", object)


#: The longest wait of one call, in seconds.
_LONGEST = 2_000_000


class SelectSelector(_StandardSelect):
    """The standard SelectSelector, without its limit of 1024."""

    _select = staticmethod(_select.select)


def _set(poll_set: Any, table: None, key: SelectorKey, mask: int) -> int:
    poll_set._set(key[1], mask)
    return 0


def _keep(poll_set: Any, table: None, key: SelectorKey, mask: int) -> int:
    return 0


def _discard(poll_set: Any, table: None, fd: int) -> int:
    if fd in poll_set._masks:
        poll_set._discard(fd)
    return 0


class PollSelector(Registrations, _StandardPoll):
    """The standard PollSelector, faster; its timeouts have a resolution of nanoseconds."""

    _selector: Any
    _add = _change = staticmethod(_set)
    _rekey = staticmethod(_keep)
    _remove = staticmethod(_discard)

    def _selector_cls(self) -> PollSet:
        return make_set(self._fd_to_key)

    def __init__(self) -> None:
        super().__init__()
        if type(self._selector) is PollSet:
            self._mux, self._masks = self._selector, MASKS

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for each ready file."""
        try:
            state = self._selector._state
        except AttributeError:  # a subclass uses another poll object
            return super().select(timeout)
        result = poll_keys(state, timeout)
        if result == UNUSUAL:
            seconds = for_selector(timeout, for_poll)
            if seconds > _LONGEST:
                return self.select(_LONGEST) or self.select(seconds - _LONGEST)
            result = poll_keys(state, seconds)
        if result.__class__ is list:
            return result  # type: ignore[no-any-return]
        if result == BUSY:
            raise RuntimeError("concurrent poll() invocation")
        raise os_error(result)
