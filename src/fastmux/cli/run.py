"""``python -m fastmux run``: run a program with patch() in effect, and asyncio on ``fastmux.EventLoop``.

The program gets the sys.argv, sys.path[0] and ``__main__`` that it has when python itself runs it.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import selectors
import sys
from types import ModuleType
from typing import Any

from fastmux._original import changed_by
from fastmux._patch import patch

USAGE = "run [-m MODULE | SCRIPT] [ARGS...]"


def run(arguments: list[str]) -> None:
    """Run a program. arguments are those of the command line after "run"."""
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        sys.argv = ["-m", *arguments[2:]]
        prepare()
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
    elif arguments and not arguments[0].startswith("-"):
        sys.argv = arguments
        run_script(arguments[0])
    else:
        print(f"usage: python -m fastmux {USAGE}", file=sys.stderr)
        sys.exit(2)


def run_script(script: str) -> None:
    """Run a source file, or a directory or zip file with a __main__.py."""
    path = os.path.join(os.getcwd(), script)
    # -I and -P leave the directory of the program out of sys.path.
    isolated = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if pkgutil.get_importer(path) is not None:
        sys.path[: 0 if isolated else 1] = [path]
        prepare()
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    if not isolated:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = prepare()
    main.update(__file__=path, __loader__=importlib.machinery.SourceFileLoader("__main__", path))
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    exec(compile(source, path, "exec", dont_inherit=True), main)


def prepare() -> dict[str, Any]:
    """Patch, and replace ``__main__`` by an empty module, as in a fresh interpreter; return its namespace."""
    patch()
    sys.meta_path.insert(0, LoopInstaller())
    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __package__=None)
    if sys.version_info < (3, 14):  # later versions make it at its first use
        vars(main)["__annotations__"] = {}
    return vars(main)


class LoopInstaller:
    """An import hook that makes asyncio create fastmux loops, once the program imports it.

    Not before: importing asyncio takes several times as long as everything else here, and most programs do not use it.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "asyncio.unix_events":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_install(module: ModuleType) -> None:
            execute(module)
            for name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):  # private since Python 3.14
                if hasattr(module, name):
                    getattr(module, name)._loop_factory = staticmethod(new_event_loop)

        spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


def new_event_loop() -> Any:
    if changed_by(selectors.DefaultSelector):  # by a library whose greenlets run only while the loop waits with it
        import asyncio

        return asyncio.SelectorEventLoop()
    from fastmux.loop import EventLoop

    return EventLoop()
