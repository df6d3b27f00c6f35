"""The policies for pollers and selectors in a child process, after ``os.fork()``."""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn, Protocol

    class Forkable(Protocol):
        """An object with a fork policy."""

        _fork: str

        def _after_fork(self) -> None:
            """Drop the state of the parent's threads; with the policy "rebuild", stop sharing."""

        def close(self) -> None: ...


POLICIES: Final = ("rebuild", "close", "share", "raise")

#: What stays usable in a child, with the policy "raise".
_USABLE: Final = ("capacity", "close", "closed", "mechanism", "mechanisms")


class _Reference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that equals only itself, however its object compares."""

    __slots__ = ("close", "pid")
    close: Callable[[Any], None]
    pid: int
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_references: set[_Reference] = set()
_discard = _references.discard


def check_policy(fork: str) -> str:
    """Return fork if it is a policy, else raise ValueError."""
    if fork not in POLICIES:
        raise ValueError(f"fork must be one of {', '.join(POLICIES)}; not {fork!r}")
    return fork


def apply_in_children(poller: Forkable, close: Callable[[Any], None]) -> None:
    """Apply the policy of a poller in every child that is forked from now on.

    close(poller) closes it where a subclass has an own method that fails.
    """
    reference = _Reference(poller, _discard)
    reference.close = close
    reference.pid = os.getpid()
    _references.add(reference)


class _Refusing:
    """A mixin in front of the class of a poller: every method and property raises RuntimeError.

    It has a ``__dict__``, as each of these classes: else no object could change to it.
    """

    _fork_pid: int  # of the process that made the poller

    def __init_subclass__(cls) -> None:
        """Skip the hooks of the poller's class."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in _USABLE and hasattr(type(self), name):
            self._refuse()
        return super().__getattribute__(name)

    def _refuse(self, *args: object) -> NoReturn:
        name = type(self).__name__
        raise RuntimeError(
            f"this {name} was made in process {self._fork_pid}, before a fork: make another one in the child"
        )


def _make_refuse(poller: Any, pid: int) -> None:
    cls: Any = type(poller)
    if issubclass(cls, _Refusing):
        return  # a child of a child
    special = [name for name in ("__len__", "__contains__", "__enter__") if hasattr(cls, name)]
    names = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__, "_fork_pid": pid}
    refusing = type(cls)(cls.__name__, (_Refusing, cls), dict.fromkeys(special, _Refusing._refuse) | names)
    object.__setattr__(poller, "__class__", refusing)


def _apply(poller: Any, reference: _Reference) -> None:
    ends = poller._fork in ("close", "raise")
    try:
        poller._after_fork()
        if ends:
            poller.close()
    finally:  # whatever the close() of a subclass raises
        try:
            if ends:
                reference.close(poller)
        finally:
            if poller._fork == "raise":
                _make_refuse(poller, reference.pid)


def _in_child() -> None:
    errors = []
    for reference in list(_references):
        if (poller := reference()) is not None:
            try:
                _apply(poller, reference)
            except BaseException as error:  # the other pollers need their policy, too
                errors.append(error)
    if errors:
        raise errors[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
