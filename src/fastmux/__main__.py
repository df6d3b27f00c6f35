"""``python -m fastmux``: run a program on fastmux, or tell what this machine can do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import fastmux

from . import _run


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["run"] and arguments[1:2] not in (["-h"], ["--help"]):
        _run.run(arguments[1:])  # argparse would take the program's options for its own
        return
    parser = argparse.ArgumentParser(prog="python -m fastmux", description="Fast I/O multiplexing.")
    parser.add_argument("--version", action="version", version=f"fastmux {fastmux.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a program with fastmux in place of the standard select and selectors",
        description="Run a program that need not know of fastmux, with fastmux.patch() in effect: select, selectors and"
        " all that is built on them; and asyncio on fastmux.EventLoop. Everything else is as if python itself had"
        " started it.",
        usage=f"python -m fastmux {_run.USAGE}",
    )
    run.add_argument("-m", metavar="MODULE", dest="module", help="run a module, as python -m does")
    run.add_argument("SCRIPT", help="or a script, or a directory or zip file with a __main__.py")
    run.add_argument("ARGS", nargs="*", help="what the program finds in sys.argv[1:]")
    info = commands.add_parser(
        "info", help="tell what this machine can do", description="Tell what this machine can do."
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    facts = collect()
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        print(table(facts))


def collect() -> dict[str, dict[str, Any]]:
    """Return what ``info`` tells: section -> name -> value."""
    import platform

    from ._features import limits, supports_exclusive, supports_nanoseconds

    mechanisms = fastmux.Poller.mechanisms
    return {
        "fastmux": {
            "version": fastmux.__version__,
            "implementation": fastmux.implementation,
            "mechanisms": list(mechanisms),
            "default selector": fastmux.selectors.DefaultSelector.__name__,
        },
        "system": {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "kernel features": {
            "epoll": "epoll" in mechanisms,
            "epoll_pwait2": supports_nanoseconds(),
            "EXCLUSIVE": supports_exclusive(),
        },
        "limits": limits(),
    }


def table(facts: dict[str, dict[str, Any]]) -> str:
    """Lay the facts out for reading."""
    width = max(len(name) for section in facts.values() for name in section)
    lines = []
    for title, section in facts.items():
        lines += ["", title]
        lines += [f"  {name:<{width}}  {spell(value)}" for name, value in section.items()]
    return "\n".join(lines[1:])


def spell(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
