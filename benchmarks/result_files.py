"""Write and read the files with the measurements.

Two of them are pyperf suites: every row is a benchmark, with the same name in both, all its times and the metadata of
the machine. ``python -m pyperf compare_to counterparts.json fastmux.json`` compares the means of all rows; ``show``,
``stats`` and ``check`` read one side; the suites of two runs can be compared, too. The third file, benchmark.json,
holds the reported data: the rows, each with the median and the quartiles of its ratio.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyperf

from .results import Quartiles, Results, Row

ROWS = "benchmark.json"
SUITES = ("counterparts.json", "fastmux.json")
#: Fields of a row that are stored besides its times.
FIELDS = ("chapter", "section", "subject", "counterpart", "name", "reference")


def write(directory: Path, info: dict[str, Any], results: Results) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file, side in zip(SUITES, ("theirs", "ours")):
        suite = pyperf.BenchmarkSuite([_renamed(row.title, getattr(row, side)) for row in results.rows])
        suite.dump(str(directory / file), replace=True)
    rows = [
        {name: getattr(row, name) for name in FIELDS}
        | {"unit": row.ours.get_unit(), "median": row.ours.median(), "counterpart_median": row.theirs.median()}
        | {"ratio": row.ratio._asdict(), "verdict": row.verdict}
        for row in results.rows
    ]
    document = {"machine": info, "rows": rows, "curves": results.curves, "notes": results.notes}
    (directory / ROWS).write_text(json.dumps(document, indent=1) + "\n")


def read(directory: Path) -> tuple[dict[str, Any], Results]:
    """Return the machine and the results of an earlier run."""
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
        chart: {
            line: {int(size): Quartiles(*point) for size, point in points.items()} for line, points in lines.items()
        }
        for chart, lines in document["curves"].items()
    }
    return document["machine"], Results(rows, curves, document["notes"])


def _renamed(title: str, benchmark: pyperf.Benchmark) -> pyperf.Benchmark:
    """Copy a benchmark under another name: several rows may share one."""
    renamed = pyperf.Benchmark(benchmark.get_runs())
    renamed.update_metadata({"name": title})
    return renamed
