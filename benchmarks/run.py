"""Run the chapters in sequence, then write the files. An interrupted run keeps the completed chapters."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import machine, result_files
from .chapters import COMPACT, asyncio, echo, idle, poll, select, selectors, servers
from .report import bar_charts, dot_charts, line_charts, page, tables, terminal
from .results import BenchmarkError, Results

CHAPTERS: dict[str, Any] = {
    "servers": servers.CHAPTER,
    "echo": echo.CHAPTER,
    "selectors": selectors.CHAPTER,
    "poll": poll.CHAPTER,
    "select": select.CHAPTER,
    "asyncio": asyncio.CHAPTER,
    "idle": idle,
}
DOCS = Path(__file__).parent.parent / "docs"


def measure(args: Namespace) -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    machine.raise_descriptor_limit()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each child would compile a checkout again
    info = machine.describe()
    results = Results()
    _note_limitations(info, results)
    chapters = {name: CHAPTERS[name] for name in args.chapters}
    settings = {name: chapter.QUICK if args.quick else chapter.FULL for name, chapter in chapters.items()}
    info |= {"quick": args.quick, "settings": {name: dataclasses.asdict(value) for name, value in settings.items()}}
    status, done, info["seconds"] = 0, [], {}
    terminal.show_machine(console, info)
    with tempfile.TemporaryDirectory() as workspace, _progress_bar(console) as bar:
        started = itertools.count()
        task = bar.add_task("", total=sum(chapters[name].steps(settings[name]) for name in chapters))
        try:
            for name, chapter in chapters.items():
                start = time.monotonic()
                chapter.run(settings[name], Path(workspace), results, _progress_callback(bar, task, name, started))
                done.append(name)
                info["seconds"][name] = round(time.monotonic() - start, 1)
                _show(console, name, results)
                console.print(f"\n{name}: {info['seconds'][name]} s", highlight=False)
        except KeyboardInterrupt:
            status, reason = 130, "interrupted"
        except BenchmarkError as error:
            status, reason = 1, f"chapter {name} failed: {error}"
        bar.update(task, completed=bar.tasks[0].total)
    if status:
        results.rows = [row for row in results.rows if row.chapter in done]
        missing = ", ".join(name for name in chapters if name not in done)
        print(f"{reason}; kept: {', '.join(done) or 'nothing'}; missing: {missing}", file=sys.stderr)
        results.note(f"Incomplete run: {reason}. Missing: {missing}.")
    if results.rows:
        result_files.write(args.output, info, results)
        _report(args, console, info, results, docs=args.docs and not status)
    return status


def redraw(args: Namespace) -> int:
    """Report the measurements of an earlier run."""
    info, results = result_files.read(args.output)
    console = Console()
    terminal.show_machine(console, info)
    for name in CHAPTERS:
        _show(console, name, results)
    _report(args, console, info, results, docs=args.docs)
    return 0


def _show(console: Console, chapter: str, results: Results) -> None:
    if rows := [row for row in results.rows if row.chapter == chapter]:
        terminal.show_chapter(console, rows, compact=chapter in COMPACT)


def _note_limitations(info: dict[str, Any], results: Results) -> None:
    if info["implementation"] != "c":
        results.note("fastmux runs without its extension: Poller is StdlibPoller.")
    if info["load"] > 0.5:
        results.note(
            f"The machine was busy (load {info['load']:.1f}). This hardly affects single calls, which are timed in CPU "
            "time, but it does affect the echo servers."
        )
    if missing := [name for name, version in info["peers"].items() if version is None]:
        results.note(f"Not installed, skipped: {', '.join(missing)} (pip install '.[bench,peers]').")


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description:42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _progress_callback(bar: Progress, task: Any, chapter: str, started: Iterator[int]) -> Callable[[str], None]:
    """Return the function that a chapter calls at the start of each step."""

    def step(description: str) -> None:
        bar.update(task, completed=next(started), description=f"{chapter}: {description}")

    return step


def _report(args: Namespace, console: Console, info: dict[str, Any], results: Results, *, docs: bool) -> None:
    terminal.show_notes(console, results)
    written = [
        path
        for charts in (bar_charts, dot_charts, line_charts)
        for path in charts.write(args.output, info, results)
    ]  # fmt: skip
    written.append(page.write(args.output, info, results, written))
    print("Written:", ", ".join(str(path) for path in written), "and, for python -m pyperf:", *result_files.SUITES)
    if docs:
        for path in written:
            if path.suffix in (".png", ".svg"):
                shutil.copy(path, DOCS)
        tables.update(DOCS / "benchmarks.md", info, results)
        print(f"Charts and tables copied to {DOCS}")
