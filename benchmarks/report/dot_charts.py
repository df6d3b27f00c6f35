"""Draw charts of programs on several libraries: a line for each program, with a dot for each counterpart."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.results import FRESH, LOADED, Results, Row, by_name, format_ratio

from . import figure
from .figure import INK

#: chapter -> title
CHARTS = {
    "servers": "HTTP servers: CPU time per request",
    "echo": "Echo servers: CPU time per message",
    "asyncio": "asyncio: CPU time, latency, memory",
}
LEGEND = (
    "Speed on fastmux relative to each counterpart: 2 means half the time; left of 1, fastmux is slower. A ring is a "
    "server that has just started, a dot anything else."
)
#: Counterpart -> marker, besides its color.
MARKERS = {"asyncio": "o", "selectors": "P", "uvloop": "s", "rloop": "D", "gevent": "^", "trio": "v", "fastmux": "o"}
#: Range of the scale; dots beyond it are arrowheads.
MIN, MAX = 0.25, 8
#: Heights in inches of a line, of a panel's heading, of its legend and of the axis below it.
LINE, HEADING, KEYS, AXIS = 0.22, 0.24, 0.2, 0.3
COLUMNS = 3  # of the legend


def write(directory: Path, info: dict[str, Any], results: Results) -> list[Path]:
    """Draw all measured chapters of this kind; return the files."""
    written = []
    for chapter, title in CHARTS.items():
        if rows := [row for row in results.rows if row.chapter == chapter]:
            panels = {subject: list(group) for subject, group in groupby(rows, key=lambda row: row.subject)}
            written += _draw(directory, chapter, title, info, panels)
    return written


def program_of(row: Row) -> str:
    """Return the name of a row without the state of the server."""
    return row.name.removesuffix(FRESH).removesuffix(LOADED)


def _legend_height(rows: list[Row]) -> float:
    return KEYS * -(-len({row.counterpart for row in rows}) // COLUMNS)


def _draw(directory: Path, file: str, title: str, info: dict[str, Any], panels: dict[str, list[Row]]) -> list[Path]:
    programs = {subject: list(dict.fromkeys(map(program_of, rows))) for subject, rows in panels.items()}
    keys = {subject: _legend_height(rows) for subject, rows in panels.items()}
    height = sum(HEADING + keys[subject] + AXIS + LINE * len(names) for subject, names in programs.items())
    chart, top = figure.new_figure(height, title, info, LEGEND)
    height += top
    label_width = max(figure.text_width(name) for names in programs.values() for name in names) + 0.12
    bottom = height - top
    for subject, rows in panels.items():
        size = LINE * len(programs[subject])
        bottom -= HEADING + keys[subject] + size
        box = label_width, bottom, figure.WIDTH - label_width - 0.1, size
        axes = chart.add_axes([inches / (height if place % 2 else figure.WIDTH) for place, inches in enumerate(box)])
        heading_at = (bottom + size + keys[subject] + 0.06) / height
        chart.text(0.015, heading_at, f"{subject}, relative to", fontsize=9.5, fontweight="bold", color=INK)
        _draw_panel(axes, rows, programs[subject])
        bottom -= AXIS
    return figure.save(chart, directory, file, f"{title}. {_describe(panels)}")


def _draw_panel(axes: Any, rows: list[Row], programs: list[str]) -> None:
    for row in rows:
        place, color = programs.index(program_of(row)), figure.color_of(row.counterpart)
        shown = min(max(row.ratio.median, MIN), MAX)
        marker = MARKERS[row.counterpart] if shown == row.ratio.median else "<" if shown == MIN else ">"
        fresh = row.name.endswith(FRESH)
        face = "none" if fresh else color
        axes.plot(shown, place, marker, color=color, markerfacecolor=face, markersize=5.5, zorder=2 if fresh else 3)
    figure.set_speed_scale(axes, MIN, MAX)
    for place in range(len(programs)):
        axes.axhline(place, color=INK, alpha=0.12, linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(programs)), programs)
    axes.set_ylim(len(programs) - 0.5, -0.5)
    for counterpart in dict.fromkeys(row.counterpart for row in rows):
        axes.plot([], [], MARKERS[counterpart], color=figure.color_of(counterpart), markersize=5.5, label=counterpart)
    axes.legend(
        frameon=False, loc="lower right", bbox_to_anchor=(1.02, 1), borderaxespad=0, ncols=COLUMNS, labelcolor=INK,
        fontsize=8.5, handletextpad=0.1, columnspacing=0.8,
    )  # fmt: skip


def _describe(panels: dict[str, list[Row]]) -> str:
    return "; ".join(
        f"{subject}, {name}: "
        + ", ".join(f"{format_ratio(row.ratio.median)} against {other}" for other, row in found.items())
        for subject, rows in panels.items()
        for name, found in by_name(rows).items()
    )
