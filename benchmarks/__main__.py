"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from pathlib import Path

#: name -> what is measured
CHAPTERS = {
    "poll": "what is ready, as (descriptor, events): Poller, the mirrors of epoll and poll, pyzmq, a loop in C",
    "selectors": "what is ready, with keys; registrations: Poller, the mirrors of selectors",
    "select": "select() on lists, up to the limit of 1024 and beyond it",
    "asyncio": "a request's CPU time on an event loop: asyncio, uvloop, rloop",
    "echo": "echo servers under load: Poller, selectors, asyncio, uvloop, gevent, trio",
    "idle": "10 active connections among 10 to as many as can be open: select, poll, epoll",
}
NEEDED = ("fastmux", "matplotlib", "pyperf", "rich")
OUTPUT = Path("benchmarks/results")
DOCS = Path(__file__).parent.parent / "docs"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fastmux against the standard library and its peers, as ratios within one run. Prints a "
        "table; writes a report in HTML, charts, and all measurements as JSON.",
        epilog="Chapters: " + "; ".join(f"{name} ({about})" for name, about in CHAPTERS.items()) + ".",
    )
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(CHAPTERS)}; default: all")
    parser.add_argument("--list", action="store_true", help="say what the chapters are, and stop")
    parser.add_argument("--quick", action="store_true", help="within a minute; otherwise within 15 minutes")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: report again what is in DIR")
    parser.add_argument("--docs", action="store_true", help="put the pictures of a finished run into docs/ as well")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: %(default)s")
    args = parser.parse_args()
    if unknown := [name for name in args.chapters if name not in CHAPTERS]:
        parser.error(f"no such chapter: {', '.join(unknown)}")
    args.chapters = [name for name in CHAPTERS if name in args.chapters or not args.chapters]
    return args


def main() -> int:
    args = arguments()
    if args.list:
        for name, about in CHAPTERS.items():
            print(f"{name:10} {about}")
        return 0
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)} missing: pip install '.[bench]'")
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    from . import run

    try:
        return run.redraw(args) if args.redraw else run.measure(args)
    except KeyboardInterrupt:
        print("interrupted while the files were written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
