"""``python -m fastmux run``: start a program as python itself would, with patch() in effect.

What a program can see of how it was started is sys.argv, sys.path[0] and the module __main__; what its user can see are
the exit status and the traceback. All of it is made here as the interpreter makes it.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import marshal
import os
import pkgutil
import runpy
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType, TracebackType
from typing import Any

from ._patch import patch

USAGE = "run [-m MODULE | SCRIPT] [ARGS...]"


def run(arguments: list[str]) -> None:
    """Run a program; arguments are those of the command line."""
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        sys.argv = ["-m", *arguments[2:]]
        start = runpy._run_module_as_main, (arguments[1],)  # type: ignore[attr-defined]
    elif arguments and not arguments[0].startswith("-"):
        sys.argv = arguments
        start = prepare(arguments[0])
    else:
        print(f"usage: python -m fastmux {USAGE}", file=sys.stderr)
        sys.exit(2)
    patch()
    sys.meta_path.insert(0, LoopInstaller())
    function, parameters = start
    new_main()
    try:
        function(*parameters)
    except BaseException as error:
        if not isinstance(error, SystemExit):
            hide_own_frames(error)
        raise


def prepare(script: str) -> tuple[Any, tuple[Any, ...]]:
    """Find out what a script is, and set sys.path[0]. Return a function that runs it, and its arguments."""
    path = os.path.join(os.getcwd(), script)  # with every dot in it, as in __file__
    # Nothing stands for the directory of -m fastmux in sys.path then, and nothing is to stand for the script's.
    isolated = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if pkgutil.get_importer(path) is not None:  # a directory or a zip file
        sys.path[: 0 if isolated else 1] = [path]
        return runpy._run_module_as_main, ("__main__", False)  # type: ignore[attr-defined]
    if not isolated:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    try:
        with io.open_code(path) as file:  # once: it may be a pipe
            return run_code, (file.read(), path)
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)


def run_code(content: bytes, path: str) -> None:
    """Run what is in a file, source or bytecode."""
    main = vars(sys.modules["__main__"])
    compiled = content.startswith(MAGIC_NUMBER)
    loader = SourcelessFileLoader if compiled else SourceFileLoader
    main.update(__file__=path, __loader__=loader("__main__", path))
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    exec(marshal.loads(content[16:]) if compiled else compile(content, path, "exec", dont_inherit=True), main)


class LoopInstaller:
    """Finds asyncio when the program imports it, and has it make our event loops.

    Not before: most programs do not, and asyncio takes longer to import than all else here.
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
            for name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):  # since Python 3.14 it is private
                if hasattr(module, name):
                    getattr(module, name)._loop_factory = staticmethod(new_event_loop)

        spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


def new_event_loop() -> Any:
    from ._loop import EventLoop

    return EventLoop()


def new_main() -> None:
    """Have an empty module __main__, like a fresh interpreter."""
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __package__=None)
    if sys.version_info < (3, 14):  # from then on they are made when they are asked for
        vars(main)["__annotations__"] = {}
    sys.modules["__main__"] = main


def hide_own_frames(error: BaseException) -> None:
    """Have the traceback that the interpreter is about to print begin where the program begins."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    hook = sys.excepthook

    def shorter(kind: type[BaseException], value: BaseException, whole: TracebackType | None) -> Any:
        return hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = shorter
