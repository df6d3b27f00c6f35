"""A drop-in replacement for the standard ``select`` module, on the C core.

Names, arguments, units, rounding, results and errors are those of the standard module of the running interpreter, with
one exception: select() takes any number of descriptors, of any value. Everything else in the standard module (kqueue,
devpoll) is passed through. Without the extension everything is.
"""

from __future__ import annotations

from select import *  # noqa: F403
from selectors import SelectorKey
from sys import modules as _modules

from fastmux import _binding
from fastmux._original import select as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: The standard objects that this module replaces.
STANDARD: Final[dict[str, Any]] = {
    name: getattr(_standard, name) for name in ("select", "poll", "epoll") if hasattr(_standard, name)
}

if _binding.implementation == "c":
    _binding.add_select(_modules[__name__])
    if "poll" in STANDARD:
        #: A poll object, from which poll() makes others.
        _poll: Any = _binding.add_poll(_modules[__name__], _binding.PAIRS, SelectorKey)
    if "epoll" in STANDARD and "epoll" in _binding.MECHANISMS:
        from .epoll_object import epoll as epoll  # type: ignore[assignment]

        epoll.__module__ = __name__

del TYPE_CHECKING  # no name of the standard module
