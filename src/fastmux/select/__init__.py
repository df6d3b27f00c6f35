"""A drop-in replacement for the standard ``select`` module, on the C core.

Names, arguments, units, rounding, results and errors are those of the standard module of the running interpreter, with
one exception: select() takes any number of descriptors, of any value. Everything else in the standard module (kqueue,
devpoll) is passed through. Without the extension everything is.
"""

from __future__ import annotations

from sys import modules as _modules

from fastmux import _binding, _original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from select import *  # noqa: F403
    from typing import Any
else:
    globals().update({name: value for name, value in vars(_original.select).items() if not name.startswith("_")})

if _binding.implementation == "c":
    _binding.add_select(_modules[__name__])
    if hasattr(_original.select, "poll"):
        #: A poll object, from which poll() makes others.
        _poll: Any = _binding.add_poll(_modules[__name__], _binding.FIRST_CONTEXT)
    if hasattr(_original.select, "epoll") and "epoll" in _binding.MECHANISMS:
        from .epoll_object import epoll as epoll  # type: ignore[assignment]

        epoll.__module__ = __name__

del TYPE_CHECKING  # no name of the standard module
