"""Fast I/O multiplexing: wait on many file descriptors at once, by epoll, poll or select."""

from . import select, selectors
from ._base import EDGE, ERROR, EXCLUSIVE, HANGUP, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE
from ._core import implementation
from ._patch import patch, unpatch
from ._poller import Poller
from ._stdlib import StdlibPoller
from ._version import __version__

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
    "Poller",
    "StdlibPoller",
    "__version__",
    "implementation",
    "patch",
    "select",
    "selectors",
    "unpatch",
]
