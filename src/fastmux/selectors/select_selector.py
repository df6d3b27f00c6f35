"""SelectSelector on ``fastmux.select.select``."""

from __future__ import annotations

from fastmux import select as _select
from fastmux._original import selectors as _standard


class SelectSelector(_standard.SelectSelector):
    """The standard SelectSelector, without its limit of 1024."""

    _select = _select.select


SelectSelector.__module__ = "fastmux.selectors"  # for pickle
