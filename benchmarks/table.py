"""The rows on the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from . import machine
from .results import Results, amount, times

STYLES = {"faster": "green", "slower": "red", "unclear": "yellow"}


def show(console: Console, found: dict[str, Any], results: Results) -> None:
    console.print(f"[bold]fastmux {found['fastmux']} ({found['implementation']})[/], {machine.title(found)}")
    for (chapter, section), rows in groupby(results.rows, key=lambda row: (row.chapter, row.section)):
        console.print(f"\n{chapter}: [bold]{section}[/]", highlight=False)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("", width=25)
        for heading, width in (("counterpart", 11), ("fastmux", 9), ("times", 5), ("middle half", 12)):
            table.add_column(heading, justify="right", width=width)
        table.add_column("", width=7)
        for row in rows:
            style = STYLES.get(row.verdict, "dim")
            table.add_row(
                row.name,
                amount(row.theirs.median()),
                amount(row.ours.median()),
                f"[{style}]{times(row.ratio.median)}[/]",
                f"{times(row.ratio.low)} - {times(row.ratio.high)}",
                f"[{style}]{row.verdict}[/]",
            )
        console.print(table)
    console.print()
    for note in results.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)
