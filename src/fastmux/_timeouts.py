"""Conversions of timeouts that are not plain numbers.

csrc/python/timeouts.c converts and rounds a timeout that is None, or exactly a float or an int in the usual range. It
refuses every other timeout (UNUSUAL). The functions of this module make a plain number of it, or raise the error of the
standard library. nanoseconds() rounds, for StdlibPoller; for_selector() rounds to milliseconds, as the standard one.
"""

from __future__ import annotations

import math
import operator
import sys

from ._binding import INT_MAX
from ._original import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

#: From this version on, the standard library takes any real number, and poll() one of any length.
ANY_REAL: Final = sys.version_info >= (3, 15)
_INT64_MAX: Final = (1 << 63) - 1
#: The largest timeout that csrc/python/timeouts.c takes, in seconds: 292 years.
_MOST_SECONDS: Final = 9_223_372_035
#: The longest wait of one standard call, in seconds: milliseconds in a C int, rounded down.
ONE_CALL: Final = 2_000_000


def nanoseconds(timeout: Any) -> int:
    """Convert the timeout of a Poller to nanoseconds, rounded up; -1 stands for None, and <= 0 becomes 0.

    Raises TypeError if it is neither a float nor an int, ValueError for NaN, OverflowError above 292 years.
    """
    if timeout is None:
        return -1
    if isinstance(timeout, float):
        if math.isnan(timeout):
            raise ValueError("timeout is NaN (not a number)")
        if timeout <= 0:
            return 0
        if math.isinf(timeout):
            raise OverflowError("timeout is infinite; use None to wait for ever")
        ns = math.ceil(timeout * 1e9)
    else:
        try:
            ns = operator.index(timeout) * 1_000_000_000
        except TypeError:
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}") from None
    if ns > _INT64_MAX:
        raise OverflowError("timeout is too large; use None to wait for ever")
    return max(ns, 0)


def for_poller(timeout: Any) -> float | None:
    """Return the timeout of a Poller as a plain number of seconds."""
    ns = nanoseconds(timeout)
    return None if ns < 0 else min(ns / 1e9, _MOST_SECONDS)


def for_selector(timeout: Any, check: Callable[[int], object]) -> float:
    """Return the timeout of a selector as a plain number of seconds. check(ms) raises for one that is too large."""
    if timeout <= 0:
        return 0
    ms: int = math.ceil(timeout * 1e3)
    if ms > INT_MAX:
        check(ms)
    return ms / 1e3


def for_select(timeout: Any) -> float:
    """Return the timeout of select() as a plain number of seconds."""
    try:
        if 0 <= (seconds := _number(timeout)) * 1_000_000_000 <= _INT64_MAX:
            return min(seconds, _MOST_SECONDS)
    except (TypeError, ValueError, OverflowError):
        pass
    select.select([], [], [], timeout)  # raises, with the message of this version
    raise OverflowError("timeout is too large")


def for_epoll(timeout: Any) -> float | None:
    """Return the timeout of epoll.poll() as a plain number of seconds; None if it is negative.

    Timeouts of -1 ms or less count as negative; those between -1 ms and 0 round up to 0. Raises TypeError, ValueError
    or OverflowError, without the message of the standard library.
    """
    if timeout is None:
        return None
    seconds = _number(timeout)
    ms = math.ceil(seconds * 1000)
    if not -INT_MAX - 1 <= ms <= INT_MAX:
        raise OverflowError
    return max(seconds, 0) if ms >= 0 else None


def for_poll(timeout: Any) -> float | None:
    """Return the timeout of poll.poll() as a plain number of milliseconds; None if it is negative."""
    try:
        ms = _number(timeout)
        whole = math.ceil(ms) if ms >= 0 else math.floor(ms)  # refuses NaN and infinity
        if -INT_MAX - 1 <= whole <= INT_MAX or (ANY_REAL and abs(whole) <= _INT64_MAX // 1_000_000):
            return None if ms < 0 else ms
    except (TypeError, ValueError, OverflowError):
        pass
    select.poll().poll(timeout)  # raises, with the message of this version
    raise OverflowError("timeout is too large")


def _number(timeout: Any) -> float:
    """Convert a number as the standard select module does: to a plain float or int."""
    if isinstance(timeout, float):
        return float(timeout)
    if ANY_REAL and not hasattr(timeout, "__index__"):
        return math.ldexp(timeout, 0)  # takes any real number, but no text as float() does
    return operator.index(timeout)
