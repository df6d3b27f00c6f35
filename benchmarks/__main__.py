"""Command line of the benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from pathlib import Path

from .chapters import DESCRIPTIONS

REQUIRED = ("fastmux", "matplotlib", "pyperf", "rich")
OUTPUT = Path("benchmarks/results")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fastmux against the standard library and other libraries, as ratios within one run. "
        "Prints a table; writes an HTML report, charts, and all measurements as JSON.",
        epilog="Chapters: " + "; ".join(f"{name} ({text})" for name, text in DESCRIPTIONS.items()) + ".",
    )
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"{', '.join(DESCRIPTIONS)}; default: all")
    parser.add_argument("--list", action="store_true", help="list the chapters and exit")
    parser.add_argument("--quick", action="store_true", help="run for up to a minute instead of up to 20 minutes")
    parser.add_argument("--redraw", action="store_true", help="measure nothing; rebuild the report from DIR")
    parser.add_argument(
        "--docs", action="store_true", help="after a complete run, copy the charts and tables into docs/"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: %(default)s")
    args = parser.parse_args()
    if unknown := [name for name in args.chapters if name not in DESCRIPTIONS]:
        parser.error(f"unknown chapter: {', '.join(unknown)}")
    args.chapters = [name for name in DESCRIPTIONS if name in args.chapters or not args.chapters]
    return args


def main() -> int:
    args = parse_arguments()
    if args.list:
        for name, text in DESCRIPTIONS.items():
            print(f"{name:10} {text}")
        return 0
    if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)} missing: pip install '.[bench]'")
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    from . import run

    try:
        return run.redraw(args) if args.redraw else run.measure(args)
    except KeyboardInterrupt:
        print("interrupted while writing the files", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
