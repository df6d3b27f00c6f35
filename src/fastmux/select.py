"""A drop-in replacement for the standard ``select`` module, on the core.

Names, arguments, units, rounding, results and errors are those of the standard module of the running interpreter,
but select() has no limit: any descriptor, any number of them. What the platform has beyond that (kqueue, devpoll) is
passed through, and without the extension everything is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from select import *  # noqa: F403
from typing import TYPE_CHECKING, Any, Final, TypeVar

from . import _core, _standard

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_R = TypeVar("_R", bound="FileDescriptorLike")
_W = TypeVar("_W", bound="FileDescriptorLike")
_X = TypeVar("_X", bound="FileDescriptorLike")

#: The standard objects that have a mirror here.
STANDARD: Final = {
    name: getattr(_standard.select, name) for name in ("select", "poll", "epoll") if hasattr(_standard.select, name)
}

if _core.implementation == "c":
    from math import ceil

    from ._arguments import LONGEST, NOW, interval
    from ._core import select_files

    if "poll" in STANDARD:
        from ._poll import poll as poll  # type: ignore[assignment]
    if "epoll" in STANDARD and "epoll" in _core.MECHANISMS:
        from ._epoll import epoll as epoll  # type: ignore[assignment]

    def select(
        rlist: Iterable[_R], wlist: Iterable[_W], xlist: Iterable[_X], timeout: float | None = None, /
    ) -> tuple[list[_R], list[_W], list[_X]]:
        """Wait until something in one of three lists is ready, and return what is: three lists, in the same order.

        The lists hold ints or objects with a fileno() method: those to wait for until they can be read, until they can
        be written, and until something exceptional happens. timeout is seconds; None waits for ever.
        """
        if timeout is NOW:
            ns = 0
        elif timeout is None:
            ns = -1
        elif timeout.__class__ is float and 0 <= timeout < LONGEST:
            ns = ceil(timeout * 1e9)
        else:
            ns = interval(timeout)
        lists: list[Any] = [rlist, wlist, xlist]
        n = select_files(id(lists), ns)
        if n > 0:
            readers, writers, others = lists
            return readers, writers, others
        if n == 0:
            return [], [], []
        raise lists.pop() if n == -errno.EFAULT else _core.os_error(n)
