"""Write the tables of docs/benchmarks.md between the markers of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.chapters import COMPACT
from benchmarks.results import Results, Row, by_name, format_median, format_ratio

PLACE = "(<!-- table: {} -->\n).*?(<!-- end -->\n)"
CALLS = ("poll", "selectors", "select")


def update(page: Path, info: dict[str, Any], results: Results) -> None:
    """Replace the tables for which the page has markers: a chapter, ``calls``, ``slower``."""
    rows = results.rows
    tables = {name: by_counterpart([row for row in rows if row.chapter == name]) for name in COMPACT}
    tables["calls"] = by_section([row for row in rows if row.chapter in CALLS])
    tables["slower"] = slower([row for row in rows if row.verdict == "slower"])
    text = page.read_text()
    for name, made in tables.items():
        head = f"{machine.title(info)}, {info['date'][:10]}, load before the run {info['load']:.1f}:"
        block = "\n\n".join([head, *map(_markdown, made)]).replace("\\", r"\\")
        if made:
            text = re.sub(PLACE.format(name), rf"\1\n{block}\n\n\2", text, flags=re.DOTALL)
    page.write_text(text)


Table = list[list[str]]


def by_counterpart(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each subject: a row for each program or call, a column for each counterpart."""
    tables = []
    for subject, group in groupby(rows, key=lambda row: row.subject):
        found = by_name(list(group))
        counterparts = list(dict.fromkeys(name for columns in found.values() for name in columns))
        table = [["", f"{subject}: time", *counterparts]]
        for name, columns in found.items():
            ours = next(iter(columns.values())).ours
            table.append([name, format_median(ours), *(_cell(columns.get(name)) for name in counterparts)])
        tables.append(table)
    return tables


def by_section(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each set of calls that sections have in common, with a row for each of these sections; and one
    for all other calls."""
    tables: dict[tuple[str, ...], list[list[Row]]] = {}
    for _, group in groupby(rows, key=lambda row: (row.chapter, row.section)):
        section = list(group)
        tables.setdefault(tuple(row.name for row in section), []).append(section)
    others = [row for sections in tables.values() if len(sections) == 1 for row in sections[0]]
    return [
        [["", *names], *([section[0].section, *map(_cell, section)] for section in sections)]
        for names, sections in tables.items()
        if len(sections) > 1
    ] + _one_column(others)


def slower(rows: Sequence[Row]) -> list[Table]:
    """Return a table of these rows, the slowest first."""
    return _one_column(sorted(rows, key=lambda row: row.ratio.median))


def _one_column(rows: Sequence[Row]) -> list[Table]:
    return [[["", "speed"], *([row.title, _cell(row)] for row in rows)]] if rows else []


def _markdown(table: Table) -> str:
    head, *lines = table
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in cells)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return format_ratio(row.ratio.median) + ("" if row.verdict != "unclear" else " ?")
