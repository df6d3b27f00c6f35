"""patch() and unpatch(): replace functions and classes of the standard modules by fastmux's."""

from __future__ import annotations

import sys
import threading
import warnings

from . import _original
from . import select as _select
from . import selectors as _selectors
from ._original import REPLACED, changed_by, loaded_namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

#: id of a standard object -> (the object, its replacement)
_MIRRORS: dict[int, tuple[Any, Any]] = {
    id(standard): (standard, mirror)
    for standards, module in ((_original.select, _select), (_original.selectors, _selectors))
    for name in REPLACED[standards.__name__]
    if (standard := getattr(standards, name, None)) is not (mirror := getattr(module, name, None))
}

_lock = threading.RLock()
#: The changes of patch(): namespace, name, standard object. None: not patched.
_places: list[tuple[dict[str, Any], str, Any]] | None = None


def patch() -> Patched:
    """Put ``fastmux.select`` and ``fastmux.selectors`` into the standard modules, until unpatch().

    Every loaded module with one of the replaced functions or classes under a global name gets the replacement: not only
    ``select`` and ``selectors``, but also ``subprocess``, ``socketserver`` and modules that ran ``from selectors import
    DefaultSelector``. Existing objects stay as they are. asyncio's event loop is not replaced, only its selector: see
    install().

    Objects that another library has changed before, such as gevent or eventlet, stay as they are. A RuntimeWarning
    names them.

    Idempotent and thread-safe. The result is a context manager: ``with fastmux.patch(): ...`` calls unpatch() at its
    end, unless the process was patched before.
    """
    global _places
    with _lock:
        if _places is not None:
            return Patched(first=False)
        _warn_of_changes()  # if warnings are errors, nothing is patched
        places: list[tuple[dict[str, Any], str, Any]] = []
        try:
            # First in the two modules: modules that are imported later take the replacements from there.
            for module in (sys.modules["select"], sys.modules["selectors"]):
                _replace(vars(module), places)
            for namespace in loaded_namespaces():
                _replace(namespace, places)
            _places = places
        except BaseException:
            _restore(places)
            _places = None
            raise
        return Patched(first=True)


def _warn_of_changes() -> None:
    """Warn of objects that patch() does not replace."""
    kept = [
        f"{module}.{name} (by {library})"
        for module, names in REPLACED.items()
        for name in names
        if (library := changed_by(getattr(sys.modules[module], name, None)))
    ]
    if kept and _MIRRORS:
        message = f"fastmux.patch() does not replace what another library has changed: {', '.join(kept)}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _replace(namespace: dict[str, Any], places: list[tuple[dict[str, Any], str, Any]]) -> None:
    """Replace the standard objects in a namespace, except changed classes, and record the places."""
    for name, value in namespace.copy().items():
        standard, mirror = _MIRRORS.get(id(value), (None, None))
        if mirror is not None and not changed_by(standard):
            places.append((namespace, name, standard))
            namespace[name] = mirror


def _restore(places: list[tuple[dict[str, Any], str, Any]]) -> None:
    for namespace, name, standard in places:
        mirror = _MIRRORS[id(standard)][1]
        if namespace.get(name) is mirror and not changed_by(mirror):
            namespace[name] = standard


def unpatch() -> None:
    """Undo patch(): restore the standard object under every name that it has changed. No-op without a patch().

    Modules of the standard library that were imported meanwhile are restored, too. Other modules that were imported
    meanwhile keep the replacements, and objects that were made meanwhile keep working. Names that another library has
    replaced since patch() stay as they are, and so do names of a class of fastmux in which it has replaced a method.
    """
    global _places
    with _lock:
        if _places is None:
            return
        _restore(_places)
        back = {id(mirror): standard for standard, mirror in _MIRRORS.values() if not changed_by(mirror)}
        for namespace in loaded_namespaces():
            if str(namespace.get("__name__")).partition(".")[0] in sys.stdlib_module_names:
                for name, value in namespace.copy().items():
                    if id(value) in back:
                        namespace[name] = back[id(value)]
        _places = None


class Patched:
    """The result of patch(): a context manager that undoes this patch() at its end."""

    def __init__(self, *, first: bool) -> None:
        self._first = first

    def __enter__(self) -> Patched:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._first:
            unpatch()
