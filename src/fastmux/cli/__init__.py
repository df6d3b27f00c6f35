"""The command line: ``python -m fastmux run`` and ``python -m fastmux info``."""

from __future__ import annotations

import argparse
import json

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
        help="run a program with fastmux in place of the standard select and selectors",
        description="Run a program with fastmux.patch() in effect (select, selectors, and everything built on them),"
        " and with asyncio on fastmux.EventLoop. The program needs no change.",
        usage=f"python -m fastmux {USAGE}",
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
    print(json.dumps(facts, indent=2) if options.json else table(facts))
