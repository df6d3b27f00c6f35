"""Fast I/O multiplexing: wait on many file descriptors at once, by epoll, poll or select.

``import fastmux`` loads Poller. The other parts are imported at their first use: asyncio alone takes several times as
long as everything else.
"""

from . import _binding as _binding
from . import _original as _original  # before any patch() or monkey patching
from ._binding import implementation
from ._events import EDGE, ERROR, EXCLUSIVE, HANGUP, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE
from .poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import select, selectors
    from ._patch import patch, unpatch
    from .loop import EventLoop, new_event_loop, run
    from .loop.install import install, uninstall
    from .poller import Difference, Stats, StdlibPoller

__version__ = "0.1.0"

__all__ = [
    "EDGE",
    "ERROR",
    "EXCLUSIVE",
    "HANGUP",
    "ONESHOT",
    "PEER_CLOSED",
    "PRIORITY",
    "READ",
    "WRITE",
    "Difference",
    "EventLoop",
    "Poller",
    "Stats",
    "StdlibPoller",
    "__version__",
    "implementation",
    "install",
    "new_event_loop",
    "patch",
    "run",
    "select",
    "selectors",
    "uninstall",
    "unpatch",
]

_HOMES = {
    "Difference": "poller",
    "EventLoop": "loop",
    "Stats": "poller",
    "StdlibPoller": "poller",
    "install": "loop.install",
    "new_event_loop": "loop",
    "patch": "_patch",
    "run": "loop",
    "uninstall": "loop.install",
    "unpatch": "_patch",
}

if not TYPE_CHECKING:  # with this, type checkers would accept every name

    def __getattr__(name):
        """Import the module that defines a public name."""
        import importlib

        if name in ("select", "selectors"):
            return importlib.import_module(f"fastmux.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"fastmux.{_HOMES[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


if _binding.is_set("FASTMUX_REPORT"):
    from .cli import report as _report

    _report.start()
