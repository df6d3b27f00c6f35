"""What becomes of pollers and selectors in a child process, after ``os.fork()``."""

from __future__ import annotations

import os
import weakref
from typing import Any, Final, NoReturn, Protocol

#: What can be asked for.
POLICIES: Final = ("rebuild", "close", "share", "raise")

#: What a poller that refuses to be used in a child replaces.
_METHODS: Final = (
    *("register", "modify", "unregister", "poll", "select", "wait", "wakeup", "fileno"),
    *("get_key", "get_map", "audit"),
)


class Forkable(Protocol):
    """What is remembered here."""

    _fork: str

    def _after_fork(self) -> None:
        """In a child: give up what threads of the parent held, and with the policy "rebuild", share nothing."""

    def close(self) -> None: ...


class _Known(weakref.ref[Any]):
    """A weak reference that is equal to itself only, whatever its object thinks of equality."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_known: set[_Known] = set()
_forget = _known.discard


def check_policy(fork: str) -> str:
    """Return fork if it is a policy, else raise."""
    if fork not in POLICIES:
        raise ValueError(f"fork must be one of {', '.join(POLICIES)}; not {fork!r}")
    return fork


def remember(poller: Forkable) -> None:
    """Have the policy of a poller carried out in children."""
    _known.add(_Known(poller, _forget))


def _refuse(poller: Any, parent: int) -> None:
    """Have every method raise."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"this {type(poller).__name__} was made in process {parent}, before a fork: make another one in the child"
        )

    vars(poller).update(dict.fromkeys((name for name in _METHODS if hasattr(poller, name)), refuse))


def _in_child() -> None:
    parent = os.getppid()
    for reference in list(_known):
        poller = reference()
        if poller is None:
            continue
        poller._after_fork()
        if poller._fork in ("close", "raise"):
            poller.close()
        if poller._fork == "raise":
            _refuse(poller, parent)


os.register_at_fork(after_in_child=_in_child)
