"""Poller, on the C core, and StdlibPoller, the reference on the standard library."""

from __future__ import annotations

from fastmux import _binding

TYPE_CHECKING = False
if TYPE_CHECKING or _binding.implementation == "c":
    from .core import Poller
else:
    from .stdlib import StdlibPoller as Poller

if TYPE_CHECKING:
    from .audit import Difference, Stats
    from .stdlib import StdlibPoller

__all__ = ["Difference", "Poller", "Stats", "StdlibPoller"]

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import rarely used names at their first use."""
        if name == "StdlibPoller":
            from .stdlib import StdlibPoller

            return StdlibPoller
        if name in ("Difference", "Stats"):
            from . import audit

            return getattr(audit, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
