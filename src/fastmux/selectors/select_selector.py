"""SelectSelector on ``fastmux.select.select``."""

from __future__ import annotations

from fastmux import select as _select
from fastmux._original import selectors as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import SelectSelector as _StandardSelect
else:
    _StandardSelect = _standard.SelectSelector


class SelectSelector(_StandardSelect):
    """The standard SelectSelector, without its limit of 1024."""

    _select = _select.select
