"""The measurements as files, to be read again.

Two of them are for pyperf: every row is a benchmark, under the same name in both, with all its times and what pyperf
knows of the machine. ``python -m pyperf compare_to counterparts.json fastmux.json`` compares the means of all rows;
``show``, ``stats`` and ``check`` look at one side, and two runs can be compared, too. The third, benchmark.json, has
what is reported: the rows, each with its ratio, round by round, as median and quartiles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyperf

from .results import Middle, Results, Row

ROWS = "benchmark.json"
SUITES = ("counterparts.json", "fastmux.json")
#: What is kept of a row besides its times.
FIELDS = ("chapter", "section", "subject", "counterpart", "name", "no_rival")


def write(directory: Path, found: dict[str, Any], results: Results) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file, side in zip(SUITES, ("theirs", "ours")):
        suite = pyperf.BenchmarkSuite([_named(row.title, getattr(row, side)) for row in results.rows])
        suite.dump(str(directory / file), replace=True)
    rows = [
        {name: getattr(row, name) for name in FIELDS}
        | {"seconds": row.ours.median(), "counterpart_seconds": row.theirs.median()}
        | {"ratio": row.ratio._asdict(), "verdict": row.verdict}
        for row in results.rows
    ]
    document = {"machine": found, "rows": rows, "curves": results.curves, "notes": results.notes}
    (directory / ROWS).write_text(json.dumps(document, indent=1) + "\n")


def read(directory: Path) -> tuple[dict[str, Any], Results]:
    """Return the machine and the results that were written there."""
    document = json.loads((directory / ROWS).read_text())
    theirs, ours = (
        {benchmark.get_name(): benchmark for benchmark in pyperf.BenchmarkSuite.load(str(directory / file))}
        for file in SUITES
    )
    titles = [f"{row['section']}: {row['name']}" for row in document["rows"]]
    rows = [
        Row(**{name: row[name] for name in FIELDS}, ours=ours[title], theirs=theirs[title])
        for title, row in zip(titles, document["rows"])
    ]
    curves = {
        chart: {line: {int(size): Middle(*point) for size, point in points.items()} for line, points in lines.items()}
        for chart, lines in document["curves"].items()
    }
    return document["machine"], Results(rows, curves, document["notes"])


def _named(title: str, benchmark: pyperf.Benchmark) -> pyperf.Benchmark:
    """The same measurements under another name: one may belong to several rows."""
    named = pyperf.Benchmark(benchmark.get_runs())
    named.update_metadata({"name": title})
    return named
