"""The standard ``select`` and ``selectors`` as they were at import time, whatever patch() changes later."""

from __future__ import annotations

import select as _select
import selectors as _selectors
from types import SimpleNamespace

select = SimpleNamespace(**vars(_select))
selectors = SimpleNamespace(**vars(_selectors))
