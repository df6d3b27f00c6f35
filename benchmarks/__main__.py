"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import signal
import sys
import tempfile
from pathlib import Path

from . import echo, idle, loops, machine, micro, mirrors, report
from .results import BenchmarkError, Results

CHAPTERS = {"micro": micro, "mirrors": mirrors, "idle": idle, "echo": echo, loops.CHAPTER: loops}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fastmux against the standard library: the cost of single calls of Poller (micro), the "
        "drop-in replacements (mirrors), idle connections (idle), servers under load (echo), and event loops under "
        "load (asyncio). Prints a table, and writes it as JSON and as charts.",
    )
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(CHAPTERS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="about a minute; otherwise some ten minutes")
    parser.add_argument("--only", choices=CHAPTERS, help="measure one chapter only")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), metavar="DIR", help="default: %(default)s"
    )
    args = parser.parse_args()
    if unknown := [name for name in args.chapters if name not in CHAPTERS]:
        parser.error(f"no such chapter: {', '.join(unknown)}")
    args.chapters = [*args.chapters, args.only] if args.only else args.chapters or list(CHAPTERS)
    return args


def main() -> int:
    args = arguments()
    if missing := [name for name in ("rich", "matplotlib") if importlib.util.find_spec(name) is None]:
        sys.exit(f"{' and '.join(missing)} missing: pip install '.[bench]'")
    if importlib.util.find_spec("fastmux") is None:
        sys.exit("fastmux is not installed: pip install '.[bench]'")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return measure(args)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except BenchmarkError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1


def measure(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    machine.raise_descriptor_limit()
    found = machine.describe()
    results = Results()
    if found["implementation"] != "c":
        results.note("fastmux runs without its extension here: Poller is StdlibPoller.")
    if found["load"] > 0.5:
        results.note(f"Other programs were running (load {found['load']:.1f}): expect a wide spread.")
    chapters = {name: module for name, module in CHAPTERS.items() if name in args.chapters}
    settings = {name: module.QUICK if args.quick else module.FULL for name, module in chapters.items()}
    args.output.mkdir(parents=True, exist_ok=True)

    columns = (TextColumn("{task.description:38}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as workspace, Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=sum(chapters[name].steps(settings[name]) for name in chapters))
        started = False

        def progress(next_step: str) -> None:
            nonlocal started
            bar.update(task, advance=int(started), description=next_step)
            started = True

        for name, module in chapters.items():
            module.run(settings[name], Path(workspace), results, progress)
        bar.update(task, advance=1)

    report.print_table(console, found, results)
    path = args.output / "benchmark.json"
    report.write_json(path, found, {name: dataclasses.asdict(value) for name, value in settings.items()}, results)
    charts = report.write_charts(args.output, found, results)
    print("Written:", ", ".join(str(written) for written in (path, *charts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
