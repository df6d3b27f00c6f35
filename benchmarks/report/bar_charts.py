"""Draw bar charts of the relative speed: the summary and single calls. Bars to the right of 1: faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Results, Row, format_ratio

from . import figure
from .figure import COLORS, INK

#: Rows of a chart: heading -> label -> chapter, start of the section, name of the row
Selection = dict[str, dict[str, tuple[str, str, str]]]


def _server(name: str, peers: tuple[str, ...] = ("asyncio", "uvloop")) -> dict[str, tuple[str, str, str]]:
    return {
        f"against {peer}": ("servers", f"HTTP servers on fastmux against {peer}", f"{name}, after load")
        for peer in peers
    }


#: At most eight bars, all of programs that have been running for a while.
SUMMARY: Selection = {
    "uvicorn": _server("uvicorn"),
    "aiohttp": _server("aiohttp"),
    "uvicorn, TLS": _server("uvicorn, TLS"),
    "A program on selectors, one import changed": {
        "echo server": ("echo", "Echo server on fastmux.selectors against selectors", "100 connections, after load"),
        "its select() alone": ("selectors", "fastmux.selectors.EpollSelector", "10 ready"),
    },
}
MIRROR = "fastmux.selectors.{}Selector, select(0)"
CALLS: Selection = {
    "epoll": {
        "EpollSelector.select, 1 ready": ("selectors", MIRROR.format("Epoll"), "1 ready"),
        "EpollSelector.select, 100 ready": ("selectors", MIRROR.format("Epoll"), "100 ready"),
        "the same with a timeout, 10 ready": ("selectors", "Timeout of 1 s", "EpollSelector.select(1.0)"),
        "epoll.poll, 10 ready": ("poll", "fastmux.select.epoll", "10 ready"),
        "modify: other events": ("selectors", "EpollSelector, registrations", "modify: other events"),
        "register, unregister": ("selectors", "EpollSelector, registrations", "register, unregister"),
        "open, use, close": ("selectors", "Short-lived selectors", "EpollSelector, used once"),
    },
    "poll": {
        "PollSelector.select, 1 ready of 10": ("selectors", MIRROR.format("Poll"), "1 ready of 10"),
        "PollSelector.select, 1 of 100": ("selectors", MIRROR.format("Poll"), "1 ready of 100"),
        "poll.poll, 1 ready of 100": ("poll", "fastmux.select.poll", "1 ready of 100"),
        "poll.poll with a timeout, 10 ready": ("poll", "Timeout of 1 s", "poll.poll(1000)"),
        "register, unregister": ("selectors", "PollSelector, registrations", "register, unregister"),
    },
    "select": {
        "select.select, 1 ready of 10": ("select", "fastmux.select.select", "1 ready of 10 sockets"),
        "select.select, 1 ready of 500": ("select", "fastmux.select.select", "1 ready of 500 sockets"),
        "the same with a timeout": ("select", "Timeout of 1 s", "select.select(1.0), 1 ready of 500"),
        "SelectSelector.select, 1 of 10": ("selectors", MIRROR.format("Select"), "1 ready of 10"),
    },
}
UNCLEAR = "Pale: no clear difference. Thin line: the middle half of the rounds."
#: Range of the scale; bars beyond it end in an arrowhead.
MIN, MAX = 0.4, 4
#: Heights in inches of a bar, of a panel's heading and of the axis below a panel; width of the values.
BAR, HEADING, AXIS, VALUES = 0.21, 0.27, 0.26, 0.52


class Panel(NamedTuple):
    heading: str
    rows: list[tuple[str, Row]]


def write(directory: Path, info: dict[str, Any], results: Results) -> list[Path]:
    """Draw the charts that have rows; return the files."""
    title = "Speed of a program on fastmux"
    legend = (
        "CPU time per request of the same program on another event loop, or on the standard selectors, divided by that "
        f"on fastmux. Above 1, fastmux is faster. {UNCLEAR}"
    )
    written = []
    if panels := _select(results.rows, SUMMARY):
        written += _draw(directory, "benchmark", title, legend, info, panels)
    title = "Single calls of the mirrors"
    legend = (
        "CPU time of the same call in the standard library, divided by that in fastmux. Above 1, fastmux is faster. "
        f"{UNCLEAR}"
    )
    if panels := _select(results.rows, CALLS):
        written += _draw(directory, "single-calls", title, legend, info, panels)
    return written


def _select(rows: list[Row], selection: Selection) -> list[Panel]:
    panels = []
    for heading, wanted in selection.items():
        selected = [
            (label, row)
            for label, (chapter, section, name) in wanted.items()
            for row in rows
            if row.name == name and row.chapter == chapter and row.section.startswith(section)
        ]
        if selected:
            panels.append(Panel(heading, selected))
    return panels


def _draw(directory: Path, file: str, title: str, legend: str, info: dict[str, Any], panels: list[Panel]) -> list[Path]:
    rows = [row for panel in panels for _, row in panel.rows]
    height = len(panels) * (HEADING + AXIS) + len(rows) * BAR
    chart, top = figure.new_figure(height, title, info, legend)
    height += top
    label_width = max(figure.text_width(label) for panel in panels for label, _ in panel.rows) + 0.12
    bottom = height - top
    for panel in panels:
        bottom -= HEADING + BAR * len(panel.rows)
        box = label_width, bottom, figure.WIDTH - label_width - VALUES, BAR * len(panel.rows)
        axes = chart.add_axes([inches / (height if place % 2 else figure.WIDTH) for place, inches in enumerate(box)])
        heading_at = (bottom + box[3] + 0.07) / height
        chart.text(0.015, heading_at, panel.heading, fontsize=9.5, fontweight="bold", color=INK)
        _draw_panel(axes, panel)
        bottom -= AXIS
    text = f"{title}. " + "; ".join(
        f"{panel.heading}, {label}: {format_ratio(row.ratio.median)}" for panel in panels for label, row in panel.rows
    )
    return figure.save(chart, directory, file, text)


def _draw_panel(axes: Any, panel: Panel) -> None:
    for place, (_, row) in enumerate(panel.rows):
        ratio = row.ratio
        color = COLORS.get(panel.heading) or figure.color_of(row.counterpart)
        alpha = 0.4 if row.verdict == "unclear" else 1
        axes.barh(place, ratio.median - 1, left=1, height=0.7, color=color, alpha=alpha, zorder=2)
        if not MIN < ratio.median < MAX:
            edge, marker = (MAX, ">") if ratio.median > 1 else (MIN, "<")
            axes.plot(edge, place, marker, color=color, markersize=11, clip_on=False)
        axes.plot([ratio.low, ratio.high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt", zorder=3)
        axes.annotate(
            format_ratio(ratio.median),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(VALUES * 72 - 4, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            fontweight="bold",
            color=INK,
        )
    figure.set_speed_scale(axes, MIN, MAX)
    axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows])
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
