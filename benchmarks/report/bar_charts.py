"""Draw bar charts of the relative speed: faster to the right of 1, slower to the left, on a logarithmic scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Results, Row, format_ratio

from . import figure
from .figure import BLUE, GREY, INK, ORANGE

#: chapter -> file, title
CHARTS = {
    "poll": ("poll", "Poller, epoll and poll"),
    "selectors": ("selectors", "Selectors and registrations"),
    "select": ("select", "select() below and above the limit"),
    "asyncio": ("asyncio", "asyncio: CPU time, latency, memory"),
    "echo": ("echo", "Echo servers"),
    "idle": ("idle-ratios", "10 active connections among many"),
}
#: Rows of the summary chart: heading -> label -> prefix of the section, name of the row
SUMMARY = {
    "Poller, 10 ready, against": {
        "epoll.poll": ("Poller.poll(0) against epoll.poll(0)", "10 ready"),
        "epoll.poll, by wait()": ("Poller.wait(0) against epoll.poll(0)", "10 ready"),
        "EpollSelector": ("Poller.select(0) against EpollSelector", "10 ready"),
        "pyzmq's Poller": ("Poller.poll(0) against pyzmq's Poller", "10 ready"),
    },
    "Mirrors against the originals": {
        "EpollSelector, 10 ready": ("fastmux.selectors.EpollSelector", "10 ready"),
        "with a timeout": ("Timeout of 1 s", "EpollSelector.select(1.0)"),
        "modify: other events": ("EpollSelector, registrations", "modify: other events"),
        "register, unregister": ("EpollSelector, registrations", "register, unregister"),
        "open, use, close": ("Short-lived selectors", "EpollSelector, used once"),
        "epoll, 10 ready": ("fastmux.select.epoll", "10 ready"),
        "poll, 1 ready of 100": ("fastmux.select.poll", "1 ready of 100"),
        "select, 1 ready of 100": ("fastmux.select.select", "1 ready of 100 sockets"),
        "import": ("Users of selectors", "python -c 'import ...'"),
    },
    "Echo server on Poller, CPU time, against": {
        name: (f"Echo server: Poller against {name}", "CPU time per request")
        for name in ("selectors", "asyncio", "uvloop", "gevent", "trio")
    },
    **{
        f"asyncio on fastmux, CPU time, against {name}": {
            title: (f"asyncio on fastmux against {name}", title)
            for title in ("HTTP: uvicorn, httptools", "HTTP: aiohttp", "HTTP: Protocol", "Protocol, 64 B, 100")
        }
        for name in ("asyncio", "uvloop", "rloop")
    },
}
COLORS = {"faster": BLUE, "slower": ORANGE}
LEGEND = "Speed relative to the counterpart. Grey: unclear; hatched: reference. Thin line: interquartile range."
#: Range of all charts; bars beyond it end in an arrowhead.
MIN, MAX = 0.2, 5
#: Heights in inches of a bar, of a panel's heading and of the axis below the last panel; width of the values.
BAR, HEADING, AXIS, VALUES = 0.21, 0.3, 0.42, 0.52


class Panel(NamedTuple):
    heading: str
    rows: list[tuple[str, Row]]


def write(directory: Path, info: dict[str, Any], results: Results) -> list[Path]:
    """Draw all measured chapters; return the files."""
    written = []
    if panels := list(_summary(results.rows)):
        shown = sum(len(panel.rows) for panel in panels)
        counts = Counter(row.verdict for row in results.rows if not row.reference)
        total = sum(counts.values())
        verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("faster", "slower", "unclear"))
        note = f"{shown} of {total} rows; of all: {verdicts}"
        title = f"Relative speed of fastmux {info['fastmux']}"
        written += _draw(directory, "benchmark", title, info, panels, note)
    for chapter, rows in groupby(results.rows, key=lambda row: row.chapter):
        file, title = CHARTS[chapter]
        panels = [
            Panel(section, [(row.name, row) for row in group])
            for section, group in groupby(rows, key=lambda row: row.section)
        ]
        written += _draw(directory, file, title, info, panels)
    return written


def _summary(rows: list[Row]) -> Iterable[Panel]:
    for heading, selection in SUMMARY.items():
        selected = [
            (label, row)
            for label, (prefix, name) in selection.items()
            for row in rows
            if row.name == name and row.section.startswith(prefix)
        ]
        if selected:
            yield Panel(heading, selected)


def _draw(
    directory: Path, file: str, title: str, info: dict[str, Any], panels: list[Panel], note: str = ""
) -> list[Path]:
    rows = [row for panel in panels for _, row in panel.rows]
    height = len(panels) * HEADING + len(rows) * BAR + AXIS
    chart, top = figure.new_figure(height, title, info, LEGEND, *filter(None, [note]))
    height += top
    label_width = max(figure.text_width(label) for panel in panels for label, _ in panel.rows) + 0.1
    bottom = height - top
    for panel in panels:
        bottom -= HEADING + BAR * len(panel.rows)
        box = label_width, bottom, figure.WIDTH - label_width - VALUES, BAR * len(panel.rows)
        axes = chart.add_axes([inches / (height if place % 2 else figure.WIDTH) for place, inches in enumerate(box)])
        heading_at = (bottom + box[3] + 0.07) / height
        chart.text(0.01, heading_at, panel.heading, fontsize=9.5, fontweight="bold", color=INK)
        _draw_panel(axes, panel, last=panel is panels[-1])
    text = f"{title}. " + "; ".join(
        f"{label}: {format_ratio(row.ratio.median)}" for panel in panels for label, row in panel.rows
    )
    return figure.save(chart, directory, file, text)


def _draw_panel(axes: Any, panel: Panel, *, last: bool) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(MIN / 1.15, MAX * 1.15)  # leaves room for the arrowheads
    figure.style_axes(axes)
    for place, (_, row) in enumerate(panel.rows):
        ratio = row.ratio
        color = COLORS.get(row.verdict, GREY)
        axes.barh(place, ratio.median - 1, left=1, height=0.7, color=color, hatch="////" if row.reference else None)
        if not MIN < ratio.median < MAX:
            edge, marker = (MAX, ">") if ratio.median > 1 else (MIN, "<")
            axes.plot(edge, place, marker, color=color, markersize=11, clip_on=False)
        axes.plot([ratio.low, ratio.high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        axes.annotate(
            format_ratio(ratio.median),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(VALUES * 72 - 2, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            fontweight="bold",
            color=COLORS.get(row.verdict, INK),
        )
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows])
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([0.25, 0.5, 1, 2, 4])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="x", labelbottom=last, length=3)
    axes.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
