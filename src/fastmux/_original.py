"""The standard ``select`` and ``selectors``, without the changes of patch() and of monkey patching.

Libraries such as gevent and eventlet replace objects of the two modules, remove others, and replace methods of the
classes. If they did so before fastmux is imported, the originals come from a second copy of the module.
"""

from __future__ import annotations

import builtins
import sys
from abc import ABCMeta
from types import FunctionType, SimpleNamespace

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
        module = type(function).__module__
        standard = ["fastmux", "selectors", "select"]
        # Not by __module__: functools.wraps() copies it. A builtin function of PyPy has no globals.
        if type(function) is FunctionType and function.__globals__ is not None:
            module = function.__globals__.get("__name__", "?")
            standard.remove("select")  # all functions there are in C
        elif module in ("abc", "builtins"):  # not a wrapper object or a mock
            module = getattr(function, "__module__", None) or "select"
        if callable(function) and module.partition(".")[0] not in standard:
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
        names = {**vars(copy), **{each: value for each, value in names.items() if each not in changed}}
    return SimpleNamespace(**names)


def _execute(name: str, select: Any) -> Any:
    """Execute a standard module once more, without a change of sys.modules."""
    from importlib.util import module_from_spec

    spec: Any = next(filter(None, (finder.find_spec(name, None) for finder in sys.meta_path)))
    copy = module_from_spec(spec)
    if select is not None:

        def import_module(name: str, *arguments: Any) -> Any:
            return select if name == "select" else __import__(name, *arguments)

        vars(copy)["__builtins__"] = {**vars(builtins), "__import__": import_module}
    spec.loader.exec_module(copy)
    return copy


def loaded_namespaces() -> list[dict[str, Any]]:
    """Return the global names of every loaded module outside this package."""
    found = []
    for name, module in sys.modules.copy().items():
        try:
            # Not by getattr(), which would load lazy modules.
            namespace = object.__getattribute__(module, "__dict__")
        except Exception:
            continue  # not an ordinary module
        if type(namespace) is dict and str(name).partition(".")[0] != "fastmux":
            found.append(namespace)
    return found


if not TYPE_CHECKING:
    select = _original("select")
    selectors = _original("selectors", select)
    # By name: that of the second copy is not the intact class of the first one.
    selectors.DefaultSelector = getattr(selectors, selectors.DefaultSelector.__name__, selectors.DefaultSelector)
    SelectorKey = selectors.SelectorKey
