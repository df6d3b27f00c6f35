"""Worker classes for gunicorn: ``gunicorn -k fastmux.gunicorn.UvicornWorker app:app``.

Each is a worker class of another package, with asyncio on ``fastmux.EventLoop``. This module can be imported without
gunicorn; a class is made at its first use, and needs its package:

| class | runs | package |
|---|---|---|
| ``UvicornWorker`` | ASGI applications | ``uvicorn-worker``, or an older ``uvicorn`` |
| ``ASGIWorker`` | ASGI applications | gunicorn itself, from version 24 on |
| ``GunicornWebWorker`` | aiohttp applications | ``aiohttp`` |
"""

from __future__ import annotations

import importlib

import fastmux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    UvicornWorker: Any
    ASGIWorker: Any
    GunicornWebWorker: Any

__all__ = ["ASGIWorker", "GunicornWebWorker", "UvicornWorker"]

#: Worker class -> modules that may define the class it is based on.
_BASES: Final = {
    "ASGIWorker": ["gunicorn.workers.gasgi"],
    "GunicornWebWorker": ["aiohttp.worker"],
    "UvicornWorker": ["uvicorn_worker", "uvicorn.workers"],
}


def __getattr__(name: str) -> Any:
    """Make a worker class. Raises ImportError if its package is missing."""
    if name not in _BASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = _on_fastmux(name, _import(_BASES[name]))
    return made


def _import(modules: list[str]) -> Any:
    """Import the first of some modules that exists."""
    *preferred, last = modules
    for module in preferred:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    return importlib.import_module(last)


def _on_fastmux(name: str, module: Any) -> Any:
    base: Any = getattr(module, name)

    class Worker(base):  # type: ignore[misc]
        if name == "UvicornWorker":
            CONFIG_KWARGS = {**base.CONFIG_KWARGS, "loop": "asyncio"}  # instead of uvloop, if it is installed

        def init_process(self) -> None:
            fastmux.install()  # in the worker process only
            if name == "ASGIWorker":
                self.cfg.set("asgi_loop", "asyncio")
            super().init_process()

    Worker.__name__ = Worker.__qualname__ = name
    Worker.__doc__ = base.__doc__
    return Worker
