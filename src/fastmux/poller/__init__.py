"""Poller, on the C core, and StdlibPoller, the reference on the standard library."""

from __future__ import annotations

from fastmux import _binding

from .stdlib import StdlibPoller

TYPE_CHECKING = False
if TYPE_CHECKING or _binding.implementation == "c":
    from .core import Poller
else:
    Poller = StdlibPoller

if TYPE_CHECKING:
    from .audit import Difference, Stats

__all__ = ["Difference", "Poller", "Stats", "StdlibPoller"]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in ("Difference", "Stats"):
            from . import audit

            return getattr(audit, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
