"""A run: the chapters one after another, and then the files, also of a run that was interrupted."""

from __future__ import annotations

import dataclasses
import itertools
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

from . import call_chapters, charts, curves, echo, idle, loops, machine, report, store, table
from .__main__ import DOCS
from .results import BenchmarkError, Results

#: name -> what has QUICK and FULL settings, steps() and run()
CHAPTERS: dict[str, Any] = {
    "poll": call_chapters.poll,
    "selectors": call_chapters.selectors,
    "select": call_chapters.select,
    "asyncio": loops,
    "echo": echo,
    "idle": idle,
}


def measure(args: Namespace) -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    machine.raise_descriptor_limit()
    found = machine.describe()
    results = Results()
    _warn(found, results)
    chapters = {name: CHAPTERS[name] for name in args.chapters}
    settings = {name: module.QUICK if args.quick else module.FULL for name, module in chapters.items()}
    found |= {"quick": args.quick, "settings": {name: dataclasses.asdict(value) for name, value in settings.items()}}
    status, done, found["seconds"] = 0, [], {}
    with tempfile.TemporaryDirectory() as workspace, _progress_bar(console) as bar:
        begun = itertools.count()
        task = bar.add_task("", total=sum(chapters[name].steps(settings[name]) for name in chapters))
        try:
            for name, module in chapters.items():
                begin = time.monotonic()
                module.run(settings[name], Path(workspace), results, _stepper(bar, task, name, begun))
                done.append(name)
                found["seconds"][name] = round(time.monotonic() - begin, 1)
                console.print(f"{name}: {found['seconds'][name]} s", highlight=False)
        except KeyboardInterrupt:
            status, reason = 130, "interrupted"
        except BenchmarkError as error:
            status, reason = 1, f"the chapter {name} failed: {error}"
        bar.update(task, completed=bar.tasks[0].total)
    if status:
        results.rows = [row for row in results.rows if row.chapter in done]
        missing = ", ".join(name for name in chapters if name not in done)
        print(f"{reason}; kept: {', '.join(done) or 'nothing'}; missing: {missing}", file=sys.stderr)
        results.note(f"This run was not finished: {reason}. Missing: {missing}.")
    if results.rows:
        store.write(args.output, found, results)
        _report(args, console, found, results, docs=args.docs and not status)
    return status


def redraw(args: Namespace) -> int:
    """Report what an earlier run has measured."""
    found, results = store.read(args.output)
    _report(args, Console(), found, results, docs=args.docs)
    return 0


def _warn(found: dict[str, Any], results: Results) -> None:
    if found["implementation"] != "c":
        results.note("fastmux runs without its extension here: Poller is StdlibPoller.")
    if found["load"] > 0.5:
        results.note(
            f"Other programs were running (load {found['load']:.1f}). Single calls are timed in CPU time, and hardly "
            "suffer from it; the figures of the echo servers do."
        )
    if missing := [name for name, version in found["peers"].items() if version is None]:
        results.note(f"Not installed, so left out: {', '.join(missing)} (pip install '.[peers]').")


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description:42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _stepper(bar: Progress, task: Any, chapter: str, begun: Iterator[int]) -> Callable[[str], None]:
    """What a chapter calls for each of its steps, which then begins."""

    def step(what: str) -> None:
        bar.update(task, completed=next(begun), description=f"{chapter}: {what}")

    return step


def _report(args: Namespace, console: Console, found: dict[str, Any], results: Results, *, docs: bool) -> None:
    table.show(console, found, results)
    written = [*charts.write(args.output, found, results), *curves.write(args.output, found, results)]
    written.append(report.write(args.output, found, results, written))
    print("Written:", ", ".join(str(path) for path in written), "and, for python -m pyperf:", *store.SUITES)
    if docs:
        for path in written:
            if path.suffix in (".png", ".svg"):
                shutil.copy(path, DOCS)
        print(f"The pictures are in {DOCS}, too")
