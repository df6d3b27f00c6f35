"""A drop-in replacement for the standard ``selectors`` module, on the C core.

The selectors are subclasses of the standard ones. They replace the methods that are called often, and inherit
everything else: the map, the errors, the handling of unusual arguments. Without the extension this module contains the
standard selectors.

``EpollSelector`` can do more: ``wakeup()``, a fork policy, and more events in register() and modify(): EVENT_PRIORITY
and ``fastmux.PEER_CLOSED``, ``EDGE``, ``ONESHOT`` and ``EXCLUSIVE``. Urgent data is EVENT_PRIORITY here and not
``fastmux.PRIORITY``, which is 2, the value of EVENT_WRITE.
"""

from __future__ import annotations

import sys

from fastmux import _binding
from fastmux._events import EVENT_PRIORITY as EVENT_PRIORITY
from fastmux._original import selectors as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import EVENT_READ as EVENT_READ
    from selectors import EVENT_WRITE as EVENT_WRITE
    from selectors import BaseSelector as BaseSelector
    from selectors import SelectorKey as SelectorKey

    if sys.platform == "darwin":
        from selectors import KqueueSelector as KqueueSelector
else:  # type checkers would take the standard selectors for the ones that are defined here
    globals().update({name: value for name, value in vars(_standard).items() if not name.startswith("_")})

if TYPE_CHECKING or _binding.implementation == "c":
    from .select_selector import SelectSelector as SelectSelector

    if hasattr(_standard, "PollSelector"):
        from .poll_selector import PollSelector as PollSelector
    if TYPE_CHECKING or (hasattr(_standard, "EpollSelector") and "epoll" in _binding.MECHANISMS):
        from .epoll_selector import EpollSelector as EpollSelector

#: The best selector of this system.
if not TYPE_CHECKING:
    DefaultSelector = globals().get(_standard.DefaultSelector.__name__, _standard.DefaultSelector)
elif sys.platform == "linux":
    DefaultSelector = EpollSelector
else:
    from selectors import DefaultSelector as DefaultSelector

del TYPE_CHECKING  # no name of the standard module
