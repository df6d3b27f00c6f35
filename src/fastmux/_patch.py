"""patch() and unpatch(): the mirrors in place of the standard modules' own functions and classes."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from . import select as _select
from . import selectors as _selectors

#: id of a standard object -> (that object, what takes its place)
_MIRRORS: dict[int, tuple[Any, Any]] = {
    id(standard): (standard, mirror)
    for standards, module in ((_select.STANDARD, _select), (_selectors.STANDARD, _selectors))
    for name, standard in standards.items()
    if standard is not (mirror := getattr(module, name))
}

_lock = threading.RLock()
#: What patch() has changed: namespace, name, the standard object. None: not patched.
_places: list[tuple[dict[str, Any], str, Any]] | None = None


def patch() -> Patched:
    """Put ``fastmux.select`` and ``fastmux.selectors`` into the standard modules, until unpatch().

    Every loaded module that holds one of the replaced functions or classes under a global name gets the mirror: not
    only ``select`` and ``selectors``, but also ``subprocess``, ``socketserver`` and whoever said ``from selectors
    import DefaultSelector`` before. Objects that exist already stay as they are.

    Calling it twice is calling it once. The result is a context manager: ``with fastmux.patch(): ...`` ends in an
    unpatch(), unless the process was patched before. From any thread.
    """
    global _places
    with _lock:
        if _places is not None:
            return Patched(first=False)
        places: list[tuple[dict[str, Any], str, Any]] = []
        try:
            # First where others take them from: what is imported from here on takes the mirrors.
            for module in (sys.modules["select"], sys.modules["selectors"]):
                _replace(vars(module), places)
            for namespace in _namespaces():
                _replace(namespace, places)
        except BaseException:
            _restore(places)
            raise
        _places = places
        return Patched(first=True)


def _replace(namespace: dict[str, Any], places: list[tuple[dict[str, Any], str, Any]]) -> None:
    """Put the mirrors into a namespace, and note where."""
    for name, value in namespace.copy().items():
        standard, mirror = _MIRRORS.get(id(value), (None, None))
        if mirror is not None:
            places.append((namespace, name, standard))
            namespace[name] = mirror


def _restore(places: list[tuple[dict[str, Any], str, Any]]) -> None:
    for namespace, name, standard in places:
        if namespace.get(name) is _MIRRORS[id(standard)][1]:
            namespace[name] = standard


def unpatch() -> None:
    """Undo patch(): every name that it has changed gets its standard object back. Without a patch(), do nothing.

    So do modules of the standard library that were imported meanwhile. Other modules imported meanwhile keep what
    they took, and so do objects that were made meanwhile: they go on working.
    """
    global _places
    with _lock:
        if _places is None:
            return
        _restore(_places)
        back = {id(mirror): standard for standard, mirror in _MIRRORS.values()}
        for namespace in _namespaces():
            if str(namespace.get("__name__")).partition(".")[0] in sys.stdlib_module_names:
                for name, value in namespace.copy().items():
                    if id(value) in back:
                        namespace[name] = back[id(value)]
        _places = None


class Patched:
    """What patch() returns: a context manager that undoes this patch() at its end."""

    def __init__(self, *, first: bool) -> None:
        self._first = first

    def __enter__(self) -> Patched:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._first:
            unpatch()


def _namespaces() -> list[dict[str, Any]]:
    """The global names of every loaded module but this package's."""
    found = []
    for name, module in sys.modules.copy().items():
        try:
            # Not by getattr(): that would load modules that are to be loaded when they are first used.
            namespace = object.__getattribute__(module, "__dict__")
        except Exception:
            continue  # not a module like others
        if type(namespace) is dict and str(name).partition(".")[0] != "fastmux":
            found.append(namespace)
    return found
