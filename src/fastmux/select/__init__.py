"""A drop-in replacement for the standard ``select`` module, on the C core.

Names, arguments, units, rounding, results and errors are those of the standard module of the running interpreter, with
one exception: select() takes any number of descriptors, of any value. Everything else in the standard module (kqueue,
devpoll) is passed through. Without the extension everything is.
"""

from __future__ import annotations

from fastmux import _binding
from fastmux._original import select as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from select import *  # noqa: F403
    from typing import TypeVar

    from _typeshed import FileDescriptorLike

    _R = TypeVar("_R", bound="FileDescriptorLike")
    _W = TypeVar("_W", bound="FileDescriptorLike")
    _X = TypeVar("_X", bound="FileDescriptorLike")
else:
    globals().update({name: value for name, value in vars(_standard).items() if not name.startswith("_")})

if _binding.implementation == "c":
    from fastmux._binding import UNUSUAL, os_error, select_files
    from fastmux._timeouts import for_select

    if hasattr(_standard, "poll"):
        from .poll_object import poll as poll  # type: ignore[assignment]
    if hasattr(_standard, "epoll") and "epoll" in _binding.MECHANISMS:
        from .epoll_object import epoll as epoll  # type: ignore[assignment]

        epoll.__module__ = __name__

    def select(
        rlist: Iterable[_R], wlist: Iterable[_W], xlist: Iterable[_X], timeout: float | None = None, /
    ) -> tuple[list[_R], list[_W], list[_X]]:
        """Wait until a file is ready, and return the ready ones of each list, in the same order.

        The lists hold ints or objects with a fileno() method, to wait for readable, writable and exceptional files.
        timeout is seconds; None waits for ever.
        """
        result = select_files(rlist, wlist, xlist, timeout)
        if result == UNUSUAL:
            result = select_files(rlist, wlist, xlist, for_select(timeout))
        if result.__class__ is tuple:
            return result
        raise os_error(result)


del TYPE_CHECKING  # no name of the standard module
