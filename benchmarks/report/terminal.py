"""Print the rows as tables on the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.results import Results, format_median, format_ratio

STYLES = {"faster": "green", "slower": "red", "unclear": "yellow"}


def show(console: Console, info: dict[str, Any], results: Results) -> None:
    console.print(f"[bold]fastmux {info['fastmux']} ({info['implementation']})[/], {machine.title(info)}")
    for (chapter, section), rows in groupby(results.rows, key=lambda row: (row.chapter, row.section)):
        console.print(f"\n{chapter}: [bold]{section}[/]", highlight=False)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("", width=25)
        for heading, width in (("counterpart", 11), ("fastmux", 9), ("speed", 5), ("quartiles", 12)):
            table.add_column(heading, justify="right", width=width)
        table.add_column("", width=7)
        for row in rows:
            style = STYLES.get(row.verdict, "dim")
            table.add_row(
                row.name,
                format_median(row.theirs),
                format_median(row.ours),
                f"[{style}]{format_ratio(row.ratio.median)}[/]",
                f"{format_ratio(row.ratio.low)} - {format_ratio(row.ratio.high)}",
                f"[{style}]{row.verdict}[/]",
            )
        console.print(table)
    console.print("\nspeed: relative to the counterpart; above 1, fastmux is faster", highlight=False)
    for note in results.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)
