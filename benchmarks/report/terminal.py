"""Print the rows as tables on the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.results import Results, Row, by_name, format_median, format_ratio

STYLES = {"faster": "green", "slower": "red", "unclear": "yellow"}


def show_machine(console: Console, info: dict[str, Any]) -> None:
    console.print(f"[bold]fastmux {info['fastmux']} ({info['implementation']})[/], {machine.title(info)}")
    console.print("Figures: speed relative to each counterpart; above 1, fastmux is faster", highlight=False)


def show_chapter(console: Console, rows: list[Row], *, compact: bool) -> None:
    """Print the rows of a chapter; compact: with a column for each counterpart."""
    key = (lambda row: row.subject) if compact else (lambda row: row.section)
    make_table = _compact_table if compact else _table
    for heading, group in groupby(rows, key=key):
        console.print(f"\n{rows[0].chapter}: [bold]{heading}[/]", highlight=False)
        console.print(make_table(list(group)))


def show_notes(console: Console, results: Results) -> None:
    console.print()
    for note in results.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)


def _new_table(*headings: tuple[str, int]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", width=34)
    for heading, width in headings:
        table.add_column(heading, justify="right", width=width)
    return table


def _table(rows: list[Row]) -> Table:
    table = _new_table(("counterpart", 11), ("fastmux", 9), ("speed", 5), ("quartiles", 12))
    table.add_column("", width=7)
    for row in rows:
        ratio = row.ratio
        times = format_median(row.theirs), format_median(row.ours)
        spread = f"{format_ratio(ratio.low)} - {format_ratio(ratio.high)}"
        table.add_row(row.name, *times, _styled(row), spread, _styled(row, row.verdict))
    return table


def _compact_table(rows: list[Row]) -> Table:
    counterparts = list(dict.fromkeys(row.counterpart for row in rows))
    table = _new_table(("time", 9), *((name, max(7, len(name))) for name in counterparts))
    for name, found in by_name(rows).items():
        first = next(iter(found.values()))
        cells = [_styled(found[other]) if other in found else "-" for other in counterparts]
        table.add_row(name, format_median(first.ours), *cells)
    return table


def _styled(row: Row, text: str = "") -> str:
    return f"[{STYLES.get(row.verdict, 'dim')}]{text or format_ratio(row.ratio.median)}[/]"
