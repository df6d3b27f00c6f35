"""The policies for pollers and selectors in a child process, after ``os.fork()``."""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn, Protocol

    class Forkable(Protocol):
        """An object with a fork policy."""

        _fork: str

        def _after_fork(self) -> None:
            """Drop the state of the parent's threads; with the policy "rebuild", stop sharing."""

        def close(self) -> None: ...


POLICIES: Final = ("rebuild", "close", "share", "raise")

#: The methods that raise in a child, with the policy "raise".
_METHODS: Final = (
    *("register", "modify", "unregister", "poll", "select", "wait", "wakeup", "fileno"),
    *("get_key", "get_map", "audit"),
)


class _Reference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that equals only itself, however its object compares."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_references: set[_Reference] = set()
_discard = _references.discard


def check_policy(fork: str) -> str:
    """Return fork if it is a policy, else raise ValueError."""
    if fork not in POLICIES:
        raise ValueError(f"fork must be one of {', '.join(POLICIES)}; not {fork!r}")
    return fork


def apply_in_children(poller: Forkable) -> None:
    """Apply the policy of a poller in every child that is forked from now on."""
    _references.add(_Reference(poller, _discard))


def _refuse(poller: Any, parent: int) -> None:
    """Make every method raise."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"this {type(poller).__name__} was made in process {parent}, before a fork: make another one in the child"
        )

    vars(poller).update(dict.fromkeys((name for name in _METHODS if hasattr(poller, name)), refuse))


def _in_child() -> None:
    parent = os.getppid()
    errors = []
    for reference in list(_references):
        if (poller := reference()) is None:
            continue
        try:
            poller._after_fork()
            if poller._fork in ("close", "raise"):
                poller.close()
            if poller._fork == "raise":
                _refuse(poller, parent)
        except BaseException as error:  # the other pollers need their policy, too
            errors.append(error)
    if errors:
        raise errors[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
