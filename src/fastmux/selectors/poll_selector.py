"""PollSelector on the C core."""

from __future__ import annotations

from fastmux import select as _select
from fastmux._binding import BUSY, NOW, UNUSUAL, os_error, poll_context, poll_keys, poll_keys_now, poll_object
from fastmux._original import SelectorKey
from fastmux._original import selectors as _standard
from fastmux._timeouts import ONE_CALL, for_poll, for_selector

from .registrations import Registrations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PollSelector(Registrations, _standard.PollSelector):
    """The standard PollSelector, faster; its timeouts have a resolution of nanoseconds."""

    _selector: Any

    def _selector_cls(self) -> Any:
        return poll_object(_select._poll, self._fd_to_key)

    def __init__(self) -> None:
        super().__init__()
        poll = self._selector
        self._context = poll_context(poll, self._fd_to_key) if type(poll) is type(_select._poll) else None

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for each ready file."""
        context = self._context
        if context is None:
            return super().select(timeout)
        result = poll_keys_now(context) if timeout is NOW else poll_keys(context, timeout)
        if result == UNUSUAL:
            seconds = for_selector(timeout, for_poll)
            if seconds > ONE_CALL:
                return self.select(ONE_CALL) or self.select(seconds - ONE_CALL)
            result = poll_keys(context, seconds)
        if result.__class__ is list:
            return result
        if result == BUSY:
            raise RuntimeError("concurrent poll() invocation")
        raise os_error(result)


PollSelector.__module__ = "fastmux.selectors"  # for pickle
