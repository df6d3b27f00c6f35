"""Arguments as the standard ``select`` module takes them.

Wrong arguments are rare, and their messages differ between versions. So the standard functions themselves are asked to
complain about them.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, Final, NoReturn

from ._standard import select

INT_MAX: Final = (1 << 31) - 1
INT64_MAX: Final = (1 << 63) - 1
#: The commonest timeout, and the default of maxevents. Compared by identity, which is quick and takes no 0j for a 0.
NOW: Final = 0
ALL: Final = -1
#: From here on the standard library takes any real number for a timeout, and poll() one of any length.
REAL_TIMEOUTS: Final = sys.version_info >= (3, 15)
#: A timeout between minus this and this needs no check but that of its type: it fits all that it is converted to.
LONGEST: Final = 1_000_000


def nanoseconds_away(timeout: Any, unit: int) -> int:
    """Convert a timeout, rounded away from zero, as the standard library does; or raise something."""
    if REAL_TIMEOUTS and not hasattr(timeout, "__index__"):
        timeout = math.ldexp(timeout, 0)  # which takes any real number, and no text as float() does
    if isinstance(timeout, float):
        ns = timeout * unit
        whole = math.ceil(ns) if ns >= 0 else math.floor(ns)  # refuses NaN and infinity
    else:
        whole = operator.index(timeout) * unit
    if not -INT64_MAX <= whole <= INT64_MAX:
        raise OverflowError
    return whole


def interval(timeout: Any) -> int:
    """Convert a timeout of select() to nanoseconds."""
    try:
        if (ns := nanoseconds_away(timeout, 1_000_000_000)) >= 0:
            return ns
    except (TypeError, ValueError, OverflowError):
        pass
    select.select([], [], [], timeout)
    raise OverflowError("timeout is too large")


def descriptor_of(file: Any) -> int:
    """Return the descriptor of an int or an object with a fileno() method."""
    if isinstance(file, int):
        if isinstance(file, bool):
            select.poll().register(file)  # which warns of it since Python 3.14
        fd = file
    elif (method := getattr(file, "fileno", None)) is None or not isinstance(fd := method(), int):
        complain(file)
    if not 0 <= fd <= INT_MAX:
        complain(fd)
    return int(fd)


def complain(file: Any) -> NoReturn:
    """Have the standard library say what is wrong with a descriptor. (Its poll object needs none of its own.)"""
    select.poll().register(file)
    raise TypeError("argument must be an int, or have a fileno() method.")


class NotCopied:
    """Neither copy nor pickle knows what to do with a kernel object."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle '{type(self).__module__}.{type(self).__qualname__}' object")
