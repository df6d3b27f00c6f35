"""The command line: ``fastmux run`` and ``fastmux info``, or ``python -m fastmux``."""

from __future__ import annotations

import argparse
import json
import os
import sys

import fastmux

from .info import collect, table
from .run import USAGE, run


def main(arguments: list[str]) -> None:
    """Execute a command. arguments are those of the command line."""
    if arguments[:1] == ["run"] and arguments[1:2] not in (["-h"], ["--help"]):
        run(arguments[1:])  # without argparse, which would parse the program's options
        return
    parser = argparse.ArgumentParser(prog="python -m fastmux", description="Fast I/O multiplexing.")
    parser.add_argument("--version", action="version", version=f"fastmux {fastmux.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run_parser = commands.add_parser(
        "run",
        help="run a program with fastmux in place of the standard select, selectors and event loop",
        description="Run a program, and the Python processes that it starts, with fastmux.patch() in effect (select,"
        " selectors, and everything built on them), and with asyncio on fastmux.EventLoop. The program needs no"
        " change.",
        usage=f"python -m fastmux {USAGE}",
    )
    run_parser.add_argument("--no-children", action="store_true", help="leave the processes that it starts as they are")
    run_parser.add_argument(
        "--replace-uvloop",
        action="store_true",
        help="use fastmux where the program selects uvloop (or: FASTMUX_REPLACE_UVLOOP=1)",
    )
    run_parser.add_argument(
        "--report",
        action="store_true",
        help="at the end of each process, print the event loops and selectors that it has created, on stderr"
        " (or: FASTMUX_REPORT=1)",
    )
    run_parser.add_argument("-m", metavar="MODULE", dest="module", help="run a module, as python -m does")
    run_parser.add_argument("SCRIPT", help="run a script, or a directory or zip file with a __main__.py")
    run_parser.add_argument("ARGS", nargs="*", help="the sys.argv[1:] of the program")
    info = commands.add_parser(
        "info",
        help="show the mechanisms, kernel features and limits of this machine",
        description="Show the mechanisms, kernel features and limits of this machine.",
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    facts = collect()
    show(json.dumps(facts, indent=2) if options.json else table(facts))


def show(text: str) -> None:
    """Print, to a reader that may stop reading, such as head."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def command() -> None:
    """Execute the script ``fastmux`` as ``python -m fastmux``, with the current directory in sys.path."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = os.getcwd()
    main(sys.argv[1:])
