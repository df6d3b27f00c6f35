"""The standard ``select`` and ``selectors``, without the changes of patch() and of monkey patching.

Libraries such as gevent and eventlet replace objects of the two modules, remove others, and replace methods of the
classes. If they did so before fastmux is imported, the originals come from a second copy of the module.
"""

from __future__ import annotations

import builtins
import sys
from abc import ABCMeta
from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select as select
    import selectors as selectors
    from selectors import SelectorKey as SelectorKey
    from typing import Any, Final

#: The objects that patch() and such libraries replace. The first one of each module exists on every system.
REPLACED: Final[dict[str, tuple[str, ...]]] = {
    "select": ("select", "poll", "epoll"),
    "selectors": ("SelectSelector", "PollSelector", "EpollSelector", "DefaultSelector"),
}


def changed_by(value: Any) -> str | None:
    """Return the module that defines an object or replaces one of its methods; None for the standard one or fastmux."""
    for part in (value, *vars(value).values()) if isinstance(value, type) else (value,):
        function = getattr(part, "__func__", part)  # of a staticmethod
        # Not __module__: a function made by functools.wraps() has that of the wrapped one.
        scope = getattr(function, "__globals__", None)  # None for functions in C, as those of select
        module = scope.get("__name__") if scope else getattr(function, "__module__", None)
        standard = ("fastmux", "selectors") if scope else ("fastmux", "selectors", "select")
        if callable(function) and module and module.partition(".")[0] not in standard:
            return str(module)
    return None


def _original(name: str, select: Any = None) -> SimpleNamespace:
    """Return the contents of a standard module. A second copy of it is executed with this ``select``."""
    names = vars(__import__(name)).copy()
    changed = [each for each in REPLACED[name] if changed_by(names.get(each))]
    # A module without the other names is not changed: poll and epoll do not exist on every system.
    if changed or REPLACED[name][0] not in names:
        copy = _execute(name, select)
        if "SelectorKey" in names:  # keys of both modules are equal, and isinstance() is true for selectors of both
            copy.SelectorKey = names["SelectorKey"]
            ABCMeta.register(names["BaseSelector"], copy.BaseSelector)
        names = {**vars(copy), **names, **{each: getattr(copy, each) for each in changed}}
    return SimpleNamespace(**names)


def _execute(name: str, select: Any) -> Any:
    """Execute a standard module once more, without a change of sys.modules."""
    from importlib.util import module_from_spec

    spec = next(filter(None, (finder.find_spec(name, None) for finder in sys.meta_path)))
    copy = module_from_spec(spec)
    if select is not None:

        def import_module(name: str, *arguments: Any) -> Any:
            return select if name == "select" else __import__(name, *arguments)

        vars(copy)["__builtins__"] = {**vars(builtins), "__import__": import_module}
    spec.loader.exec_module(copy)
    return copy


if not TYPE_CHECKING:
    select = _original("select")
    selectors = _original("selectors", select)
    # The name of a class. The class of the second copy is not the intact class of the first one.
    selectors.DefaultSelector = getattr(selectors, selectors.DefaultSelector.__name__)
    SelectorKey = selectors.SelectorKey
