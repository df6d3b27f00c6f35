"""Call functions after the import of a module, and after the creation of an object."""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

#: Module -> functions to call with it after its import.
_waiting: dict[str, list[Callable[[ModuleType], object]]] = {}


def when_imported(name: str, function: Callable[[ModuleType], object]) -> None:
    """Call function(module) once the program has imported a module: at once if it has."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        function(module)
        return
    _waiting.setdefault(name, []).append(function)
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Find the modules with waiting functions, by the other finders."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _waiting:
            return None
        finders = [
            finder.find_spec for finder in sys.meta_path if finder is not _Finder and hasattr(finder, "find_spec")
        ]
        spec: Any = next(filter(None, (find(name, path, target) for find in finders)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """Load a module, then call its waiting functions. A failing import leaves them waiting."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # The program sees the loader that it would see otherwise.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for function in _waiting.pop(module.__name__, ()):
            function(module)


def when_created(cls: Any, function: Callable[[type], object]) -> None:
    """Call function(class) after each creation of an object of cls or of a subclass."""
    initialize = cls.__init__

    @functools.wraps(initialize)
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        initialize(self, *args, **options)
        function(type(self))

    cls.__init__ = __init__
