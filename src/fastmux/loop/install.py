"""install() and uninstall(): make asyncio create fastmux loops."""

from __future__ import annotations

import selectors as standard_selectors
import sys
import threading
from asyncio import events
from collections.abc import Callable
from functools import partial
from typing import Any

from fastmux import selectors
from fastmux._original import changed_by, loaded_namespaces

from . import EventLoop, new_event_loop
from .asyncio_private import StandardLoop

_lock = threading.RLock()
#: What uninstall() calls, in reverse order. None: not installed.
_undo: list[Callable[[], object]] | None = None


def install() -> None:
    """Make asyncio create fastmux loops, until uninstall().

    ``asyncio.run()``, ``asyncio.new_event_loop()`` and ``asyncio.Runner()`` create them, and
    ``asyncio.SelectorEventLoop`` and ``asyncio.EventLoop`` are names of ``fastmux.EventLoop``, also in modules that
    have imported them before. A policy that creates other loops, such as uvloop's, is replaced. Existing loops stay as
    they are.

    A policy, a loop_factory or a loop class of another library that is selected later takes precedence. Idempotent and
    thread-safe. The standard modules ``select`` and ``selectors`` are not changed: see patch().
    """
    global _undo
    with _lock:
        if _undo is not None:
            return
        undo: list[Callable[[], object]] = []
        try:
            _change_policies(undo)
            _rename(StandardLoop, EventLoop, undo)
            _set(EventLoop, "_make_selector", staticmethod(_make_selector), undo)
            _undo = undo
        except BaseException:
            _restore(undo)
            _undo = None
            raise


def uninstall() -> None:
    """Undo install(). No-op without it. Existing loops keep working, and names that were changed since stay."""
    global _undo
    with _lock:
        if _undo is not None:
            _restore(_undo)
            _undo = None


def _restore(undo: list[Callable[[], object]]) -> None:
    while undo:
        undo[-1]()
        undo.pop()


def _change_policies(undo: list[Callable[[], object]]) -> None:
    """Let the standard policies create fastmux loops, and put one in the place of a policy that does not."""
    modules = [sys.modules[name] for name in ("asyncio.unix_events", "asyncio.windows_events") if name in sys.modules]
    policies = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and "_loop_factory" in vars(value)
    }
    for policy in policies:
        _set(policy, "_loop_factory", EventLoop, undo)
    # Private since Python 3.14.
    names = [name for name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy") if hasattr(modules[0], name)]
    if not names:  # no policies, as planned for Python 3.16
        _rename(events.new_event_loop, new_event_loop, undo)
        return
    current = getattr(events, "_event_loop_policy", None)
    if current is not None and getattr(current, "_loop_factory", None) is not EventLoop:
        _set(events, "_event_loop_policy", getattr(modules[0], names[0])(), undo)


def _set(owner: Any, name: str, value: Any, undo: list[Callable[[], object]]) -> None:
    """Set an attribute; undo it if it is still the same then."""
    old = vars(owner)[name]

    def restore() -> None:
        if vars(owner).get(name) is value:
            setattr(owner, name, old)

    undo.append(restore)
    setattr(owner, name, value)


def _rename(old: Any, new: Any, undo: list[Callable[[], object]]) -> None:
    """Replace an object under all its global names in loaded modules."""
    for namespace in loaded_namespaces():
        for name, value in namespace.copy().items():
            if value is old:
                undo.append(partial(_replace, namespace, name, new, old))
                namespace[name] = new


def _replace(namespace: dict[str, Any], name: str, old: Any, new: Any) -> None:
    if namespace.get(name) is old:
        namespace[name] = new


def _make_selector() -> Any:
    """Return a selector of fastmux, or one of a library that has changed the standard module.

    Its greenlets run only while the loop waits with its selector.
    """
    standard = standard_selectors.DefaultSelector
    return standard() if changed_by(standard) else selectors.DefaultSelector()
