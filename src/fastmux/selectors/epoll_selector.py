"""EpollSelector on the C core. register() and modify() are in registrations.py, except for the events added here."""

from __future__ import annotations

import errno
from selectors import EVENT_READ, EVENT_WRITE

from fastmux import _binding
from fastmux._binding import NOW, UNUSUAL, os_error, selector_now, selector_wait
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
#: The masks for EVENT_READ (1), EVENT_WRITE (2), and both.
_MASKS: Final = (0, READ, WRITE, READ | WRITE)


class _LazySet:
    """The attribute _selector, which is made when it is first read: few selectors need it."""

    def __get__(self, selector: Any, owner: type) -> Any:
        return self if selector is None else vars(selector).setdefault("_selector", EpollSet(selector._context))


class EpollSelector(Registrations, _standard.EpollSelector):
    """The standard EpollSelector, faster; its timeouts have a resolution of nanoseconds.

    register() and modify() also take EVENT_PRIORITY, ``fastmux.PEER_CLOSED``, ``EDGE``, ``ONESHOT`` and ``EXCLUSIVE``.
    fork is the policy for a child process, as for ``fastmux.Poller``; the default shares the set, as the standard class
    does.
    """

    _selector: Any = _LazySet()
    _map: Any
    _fork = "share"

    def _selector_cls(self) -> EpollSet:
        return EpollSet(_binding.selector_context(self._fd_to_key))

    def __init__(self, *, fork: str = "share") -> None:
        if fork != "share":
            self._fork = check_policy(fork)
        if type(self)._selector_cls is _OWN_SET:
            _standard._BaseSelectorImpl.__init__(self)
            vars(self).pop("_selector", None)  # of an earlier call
            self._context = _binding.selector_context(self._fd_to_key)
        else:  # of a subclass
            super().__init__()
            epoll_set = self._selector
            self._context = epoll_set.context if type(epoll_set) is EpollSet else None
        if fork != "share":
            apply_in_children(self, EpollSelector.close)
            if fork == "rebuild" and self._context is not None:
                _binding.context_set_shared(self._context, False)  # the core makes the child's set

    def _after_fork(self) -> None:
        """Do nothing: the core detaches the child from the parent."""

    def _fail(self, result: int) -> NoReturn:
        raise self._selector.fail(result)

    # Unusual arguments

    def _mask(self, events: Any) -> int:
        """Return the mask for events that the standard selectors do not have; 0 for all others."""
        if self._context is None or not isinstance(events, int) or not events & _CONDITIONS or events & ~_ALL:
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
            if (result := _binding.key_add(self._context, key, mask)) < 0:
                self._fail(result)
        except BaseException:  # KeyboardInterrupt, too: the kernel may already watch the descriptor
            self._drop(fd)
            raise
        return key

    def _modify(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        try:
            old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        except KeyError:  # of a fileno() method: the standard selector raises its own
            old = None
        if self._context is None or old is None:
            return super()._modify(fileobj, events, data)
        mask = self._mask(events) or (self._mask(old.events) and _MASKS[events & 3])
        if not mask:
            try:
                return super()._modify(fileobj, events, data)
            finally:
                _binding.key_replace(self._context, old.fd, None)  # waits find the key in the map of keys
        key = SelectorKey(old.fileobj, old.fd, events, data)
        try:
            if events != old.events or events & (EDGE | ONESHOT):
                if (result := _binding.key_modify(self._context, key, mask)) < 0:
                    self._fail(result)
            elif data == old.data:
                return old
            else:
                _binding.key_replace(self._context, key.fd, key)
            self._fd_to_key[key.fd] = key
        except BaseException:
            self._drop(key.fd)
            raise
        return key

    def _drop(self, fd: int) -> None:
        """Unregister a descriptor, even if the kernel, the table of pairs and the map of keys disagree about it."""
        self._fd_to_key.pop(fd, None)
        _binding.key_remove(self._context, fd)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for each ready file."""
        result = selector_now(self._context) if timeout is NOW else selector_wait(self._context, timeout)
        return result if result.__class__ is list else self._select(result, timeout)

    def _select(self, result: Any, timeout: Any) -> list[tuple[SelectorKey, int]]:
        """Slow path of select(): an unusual timeout, an error, another epoll object."""
        if self._context is None:
            return super().select(timeout)
        if result == UNUSUAL:
            timeout = for_selector(timeout, lambda ms: self._selector.refuse(ms * 1e-3))
            result = selector_wait(self._context, timeout)
        return result if result.__class__ is list else self._fail(result)

    def close(self) -> None:
        if self._context is None:
            super().close()
        else:
            _binding.context_close(self._context)
            self._fd_to_key.clear()
            self._map = None

    def wakeup(self) -> None:
        """End one select(), from any thread or a signal handler: the one in progress, else the next one.

        It returns the ready files, usually none. Calls that no select() has consumed yet count as one.
        """
        if self._context is None:
            raise os_error(-errno.EOPNOTSUPP)
        if (result := _binding.context_wakeup(self._context)) < 0:
            self._fail(result)


_OWN_SET = EpollSelector._selector_cls
EpollSelector.__module__ = "fastmux.selectors"  # for pickle
