"""The table, the chart and the JSON file."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from . import curves, machine
from .micro import FLOOR
from .mirrors import MIRROR
from .results import Results, Row


class Chart(NamedTuple):
    file: str
    chapters: tuple[str, ...]
    title: str  # {} becomes the version
    columns: int
    label: str = "times as fast as the standard library"


CHARTS = (
    Chart("benchmark.png", ("micro", "echo"), "fastmux {} against the standard library", columns=1),
    Chart("mirrors.png", ("mirrors",), "Drop-in replacements of fastmux {} against the standard library", columns=2),
    Chart(
        "asyncio.png",
        ("asyncio",),
        "asyncio on fastmux {}",
        columns=1,
        label="the other loop's CPU time / that of fastmux",
    ),
)
#: Inches: of a bar; between two panels, with the title; of the labels, the bars, and the room right of them.
BAR, GAP, LABELS, BARS, MARGIN = 0.33, 0.36, 2.5, 4.8, 0.1
HEADER, FOOTER = 1.5, 0.7
COLORS = {"faster": "#0b6e99", "slower": "#c2410c", "unclear": "#6b7280"}


def write_json(path: Path, found: dict[str, Any], settings: dict[str, Any], results: Results) -> None:
    rows = [dataclasses.asdict(row) | {"verdict": row.verdict} for row in results.rows]
    document = {"machine": found, "settings": settings, "rows": rows, "notes": results.notes, "raw": results.raw}
    path.write_text(json.dumps(document, indent=1) + "\n")


def amount(value: float, unit: str) -> str:
    if unit == "ns" and value >= 10_000:
        value, unit = value / 1000, "us"
    digits = 0 if unit in ("ns", "/s") or value >= 1000 else 1
    return f"{value:,.{digits}f} {unit}"


def heading(row: Row) -> tuple[str, str, str]:
    return row.section, row.counterpart, row.subject


def print_table(console: Any, found: dict[str, Any], results: Results) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"fastmux {found['fastmux']} ({found['implementation']}) and the standard library",
        caption=machine.title(found),
        box=box.SIMPLE_HEAD,
        title_style="bold",
        width=min(console.width, 100),
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True, min_width=28)
    table.add_column("standard\nlibrary", justify="right", no_wrap=True)
    table.add_column("fastmux", justify="right", no_wrap=True, vertical="bottom")
    table.add_column("times\nas fast", justify="right", no_wrap=True)
    table.add_column("middle half\nof rounds", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("times\nC's time", justify="right", no_wrap=True)
    style = {"faster": "green", "slower": "red", "unclear": "yellow", "limit": "dim"}
    for (section, counterpart, subject), rows in groupby(results.rows, key=heading):
        table.add_section()
        table.add_row(*(f"[bold]{text}[/bold]" for text in (section, counterpart, subject)))
        for row in rows:
            verdict = "limit" if section == FLOOR else row.verdict
            table.add_row(
                f"  {row.name}",
                amount(row.standard, row.unit),
                amount(row.fastmux, row.unit),
                f"[{style[verdict]}]{row.ratio:.2f}[/]",
                f"{row.low:.2f} - {row.high:.2f}",
                f"[{style[verdict]}]{verdict}[/]",
                "" if row.of_c is None else f"{row.of_c:.2f}",
            )
    console.print(table)
    for note in results.notes:
        console.print(f"Note: {note}")


def write_charts(directory: Path, found: dict[str, Any], results: Results) -> list[Path]:
    """Draw what was measured, and return the files."""
    import matplotlib

    matplotlib.use("Agg")
    # The limit is no result, and StdlibPoller is part of fastmux.
    rows = [row for row in results.rows if row.section != FLOOR and row.counterpart != "StdlibPoller"]
    written = []
    for chart in CHARTS:
        panels = [list(panel) for _, panel in groupby((row for row in rows if row.chapter in chart.chapters), heading)]
        if panels:
            written.append(directory / chart.file)
            _draw_chart(written[-1], chart, found, _columns(panels, chart))
    if "idle" in results.raw:
        written.append(directory / "idle.png")
        curves.draw(written[-1], found, results.raw["idle"])
    return written


def _height(panel: list[Row]) -> float:
    return BAR * len(panel) + GAP


def _columns(panels: list[list[Row]], chart: Chart) -> list[list[list[Row]]]:
    """Distribute the panels over columns of about the same height, in order."""
    columns: list[list[list[Row]]] = [[] for _ in range(chart.columns)]
    total, before = sum(map(_height, panels)), 0.0
    for panel in panels:
        columns[int((before + _height(panel) / 2) / total * chart.columns)].append(panel)
        before += _height(panel)
    return [column for column in columns if column]


def _draw_chart(path: Path, chart: Chart, found: dict[str, Any], columns: list[list[list[Row]]]) -> None:
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False})
    width = LABELS + BARS
    size = len(columns) * width, HEADER + max(sum(map(_height, column)) for column in columns) + FOOTER
    figure: Any = pyplot.figure(figsize=size)
    longest = max(row.high for column in columns for panel in column for row in panel)
    _draw_header(figure, chart.title.format(found["fastmux"]), found)
    for number, column in enumerate(columns):
        top = size[1] - HEADER
        for panel in column:
            top -= _height(panel)
            inches = number * width + LABELS, top, BARS - MARGIN, BAR * len(panel)
            axis = figure.add_axes([inch / size[place % 2] for place, inch in enumerate(inches)])
            _draw(axis, panel, longest)
            axis.tick_params(labelbottom=panel is column[-1])
        axis.set_xlabel(chart.label)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_header(figure: Any, title: str, found: dict[str, Any]) -> None:
    from matplotlib.patches import Patch

    height = figure.get_size_inches()[1]
    figure.suptitle(title, y=1 - 0.1 / height, va="top", fontsize=19, fontweight="bold")
    figure.legend(
        handles=[Patch(color=color, label=verdict) for verdict, color in COLORS.items()],
        title="\n".join(textwrap.wrap(machine.title(found), 58)) + "\nblack: the middle half of the rounds",
        alignment="left",
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.5 / height),
        ncols=3,
        frameon=False,
        handlelength=1,
    )


def _panel_title(row: Row) -> str:
    if row.subject == MIRROR:
        return row.section
    what = f"Poller.{row.subject}" if row.chapter == "micro" and row.subject != "Poller" else row.section
    return f"{what.partition(',')[0]} against {row.counterpart}"


def _draw(axis: Any, rows: list[Row], longest: float) -> None:
    places = range(len(rows))
    axis.barh(places, [row.ratio for row in rows], height=0.74, color=[COLORS[row.verdict] for row in rows])
    axis.axvline(1, color="black", linewidth=1.2)
    for place, row in zip(places, rows):
        axis.plot([row.low, row.high], [place, place], color="black", linewidth=2, solid_capstyle="butt")
        axis.text(
            max(row.ratio, row.high) + longest * 0.02,
            place,
            f"{row.ratio:.2f}",
            va="center_baseline",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axis.set_yticks(places, [row.name for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, longest * 1.16)
    axis.set_title(_panel_title(rows[0]), loc="left", fontsize=14, fontweight="bold")
