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
import sys
from types import ModuleType
from typing import Any

from . import report
from .startup import start, start_children

USAGE = "run [--no-children] [--replace-uvloop] [--report] [-m MODULE | SCRIPT] [ARGS...]"
#: Options of run that are environment variables, too.
VARIABLES = {"--replace-uvloop": "FASTMUX_REPLACE_UVLOOP", "--report": "FASTMUX_REPORT"}


def run(arguments: list[str]) -> None:
    """Run a program. arguments are those of the command line after "run"."""
    options = set()
    while arguments and arguments[0] in ("--no-children", *VARIABLES):
        options.add(arguments[0])
        arguments = arguments[1:]
    os.environ.update({VARIABLES[option]: "1" for option in options if option in VARIABLES})
    if "--report" in options:
        report.start()
    start_children("--no-children" not in options)
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
    start()
    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __package__=None)
    if sys.version_info < (3, 14):  # later versions make it at its first use
        vars(main)["__annotations__"] = {}
    return vars(main)
