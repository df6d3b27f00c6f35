"""Arguments as the standard ``select`` module takes them.

Invalid arguments are rare, and their messages differ between versions: the standard functions raise them. The builtins
of the extension call short(), for_poll() and for_select() for values that they do not convert themselves.
"""

from __future__ import annotations

from fastmux._binding import INT_MAX
from fastmux._original import select
from fastmux._timeouts import for_poll as for_poll
from fastmux._timeouts import for_select as for_select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def descriptor_of(file: Any) -> int:
    """Return the descriptor of an int or an object with a fileno() method."""
    if isinstance(file, int):
        if isinstance(file, bool):
            select.poll().register(file)  # warns since Python 3.14
        fd = file
    elif (method := getattr(file, "fileno", None)) is None or not isinstance(fd := method(), int):
        refuse(file)
    if not 0 <= fd <= INT_MAX:
        refuse(fd)
    return int(fd)


def refuse(file: Any) -> NoReturn:
    """Raise the exception of the standard library for an invalid descriptor. (Its poll object opens no descriptor.)"""
    select.poll().register(file)
    raise TypeError("argument must be an int, or have a fileno() method.")


def short(eventmask: Any) -> int:
    """Return the event mask of a poll object as an int."""
    if isinstance(eventmask, int) and 0 <= eventmask <= 0xFFFF:
        return int.__int__(eventmask)
    select.poll().register(0, eventmask)
    raise OverflowError("Python int too large for C unsigned short")


class NotCopied:
    """An object that can be neither copied nor pickled."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle '{type(self).__module__}.{type(self).__qualname__}' object")
