"""Write the tables of docs/benchmarks.md between the markers of each chapter: a row for each program or call, a column
for each counterpart."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.results import Results, Row, by_name, format_median, format_ratio

PLACE = "(<!-- table: {} -->\n).*?(<!-- end -->\n)"


def update(page: Path, info: dict[str, Any], results: Results) -> None:
    """Replace the tables of all measured chapters for which the page has markers."""
    text = page.read_text()
    for chapter, rows in groupby(results.rows, key=lambda row: row.chapter):
        tables = make_tables(info, list(rows)).replace("\\", r"\\")
        text = re.sub(PLACE.format(chapter), rf"\1\n{tables}\n\2", text, flags=re.DOTALL)
    page.write_text(text)


def make_tables(info: dict[str, Any], rows: list[Row]) -> str:
    """Return a table in Markdown for each subject, with the machine."""
    tables = [f"{machine.title(info)}, {info['date'][:10]}, load before the run {info['load']:.1f}:"]
    for subject, group in groupby(rows, key=lambda row: row.subject):
        found = by_name(list(group))
        counterparts = list(dict.fromkeys(name for by_counterpart in found.values() for name in by_counterpart))
        lines = [["", f"{subject}: time", *counterparts], ["---"] * (len(counterparts) + 2)]
        for name, by_counterpart in found.items():
            ours = next(iter(by_counterpart.values())).ours
            cells = [_cell(by_counterpart.get(counterpart)) for counterpart in counterparts]
            lines.append([name, format_median(ours), *cells])
        tables.append("\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines))
    return "\n\n".join(tables) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return format_ratio(row.ratio.median) + ("" if row.verdict != "unclear" else " ?")
