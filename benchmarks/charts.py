"""The bars: how many times as fast, from 1 to the right or, slower, to the left, on a scale where twice and half are
equally long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from . import drawing
from .drawing import BLUE, GREY, INK, ORANGE
from .results import Results, Row, times

#: chapter -> file, title
CHARTS = {
    "poll": ("poll", "Poller, epoll and poll"),
    "selectors": ("selectors", "Selectors and registrations"),
    "select": ("select", "select() with and without the limit"),
    "asyncio": ("asyncio", "asyncio: CPU time of a request"),
    "echo": ("echo", "Echo servers"),
    "idle": ("idle-ratios", "10 active connections among many"),
}
#: The choice for one picture: heading -> label -> how the section of the row begins, and its name
SUMMARY = {
    "Poller, 10 ready, against": {
        "epoll.poll": ("Poller.poll(0) against epoll.poll(0)", "10 ready"),
        "epoll.poll, by wait()": ("Poller.wait(0) against epoll.poll(0)", "10 ready"),
        "EpollSelector": ("Poller.select(0) against EpollSelector", "10 ready"),
        "pyzmq's Poller": ("Poller.poll(0) against pyzmq's Poller", "10 ready"),
    },
    "Mirrors against the originals": {
        "EpollSelector, 10 ready": ("fastmux.selectors.EpollSelector", "10 ready"),
        "with a timeout": ("Ready at once, but with a timeout", "EpollSelector.select(1.0)"),
        "modify: other events": ("EpollSelector, registrations", "modify: other events"),
        "register, unregister": ("EpollSelector, registrations", "register, unregister"),
        "open, use, close": ("A short life", "EpollSelector: and use"),
        "epoll, 10 ready": ("fastmux.select.epoll", "10 ready"),
        "poll, 1 ready of 100": ("fastmux.select.poll", "1 ready of 100"),
        "select, 1 ready of 100": ("fastmux.select.select", "1 ready of 100 sockets"),
        "import": ("Built on it", "python -c 'import ...'"),
    },
    "Echo server on Poller, CPU time, against": {
        name: (f"Echo server: Poller against {name}", "CPU time of a request")
        for name in ("selectors", "asyncio", "uvloop", "gevent", "trio")
    },
    "asyncio on fastmux, CPU time, against": {
        name: (f"asyncio on fastmux against {name}", "Protocol, 64 B, 100") for name in ("asyncio", "uvloop", "rloop")
    },
}
COLORS = {"faster": BLUE, "slower": ORANGE}
#: All charts have the same scale; what lies beyond ends in a point.
LEAST, MOST = 0.2, 5
#: Inches: of a bar; of a panel's heading; of the axis below the last panel; of the values.
BAR, HEADING, AXIS, VALUES = 0.21, 0.3, 0.42, 0.52


class Panel(NamedTuple):
    heading: str
    rows: list[tuple[str, Row]]


def write(directory: Path, found: dict[str, Any], results: Results) -> list[Path]:
    """Draw what was measured, and return the files."""
    version = found["fastmux"]
    written = []
    if panels := list(_summary(results.rows)):
        shown = sum(len(panel.rows) for panel in panels)
        counts = Counter(row.verdict for row in results.rows if not row.no_rival)
        total = sum(counts.values())
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("faster", "slower", "unclear"))
        note = f"{shown} of {total} rows; of all: {told}"
        title = f"How fast is fastmux {version}?"
        written += _draw(directory, "benchmark", title, found, panels, note)
    for chapter, rows in groupby(results.rows, key=lambda row: row.chapter):
        file, title = CHARTS[chapter]
        panels = [
            Panel(section, [(row.name, row) for row in group])
            for section, group in groupby(rows, key=lambda row: row.section)
        ]
        written += _draw(directory, file, title, found, panels)
    return written


def _summary(rows: list[Row]) -> Iterable[Panel]:
    for heading, chosen in SUMMARY.items():
        there = [
            (label, row)
            for label, (beginning, name) in chosen.items()
            for row in rows
            if row.name == name and row.section.startswith(beginning)
        ]
        if there:
            yield Panel(heading, there)


def _draw(
    directory: Path, file: str, title: str, found: dict[str, Any], panels: list[Panel], note: str = ""
) -> list[Path]:
    rows = [row for panel in panels for _, row in panel.rows]
    legend = "Times as fast. Grey: unclear; hatched: no rival. Thin line: the middle half of the rounds."
    height = len(panels) * HEADING + len(rows) * BAR + AXIS
    figure, top = drawing.new_figure(height, title, found, legend, *filter(None, [note]))
    height += top
    label_width = max(drawing.text_width(label) for panel in panels for label, _ in panel.rows) + 0.1
    bottom = height - top
    for panel in panels:
        bottom -= HEADING + BAR * len(panel.rows)
        box = label_width, bottom, drawing.WIDTH - label_width - VALUES, BAR * len(panel.rows)
        axis = figure.add_axes([inches / (height if place % 2 else drawing.WIDTH) for place, inches in enumerate(box)])
        heading_at = (bottom + box[3] + 0.07) / height
        figure.text(0.01, heading_at, panel.heading, fontsize=9.5, fontweight="bold", color=INK)
        _draw_panel(axis, panel, last=panel is panels[-1])
    text = f"{title}. " + "; ".join(
        f"{label}: {times(row.ratio.median)}" for panel in panels for label, row in panel.rows
    )
    return drawing.save(figure, directory, file, text)


def _draw_panel(axis: Any, panel: Panel, *, last: bool) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_xscale("log")
    axis.set_xlim(LEAST / 1.15, MOST * 1.15)  # room for the points
    drawing.paint(axis)
    for place, (_, row) in enumerate(panel.rows):
        ratio = row.ratio
        color = COLORS.get(row.verdict, GREY)
        axis.barh(place, ratio.median - 1, left=1, height=0.7, color=color, hatch="////" if row.no_rival else None)
        if not LEAST < ratio.median < MOST:
            edge, marker = (MOST, ">") if ratio.median > 1 else (LEAST, "<")
            axis.plot(edge, place, marker, color=color, markersize=11, clip_on=False)
        axis.plot([ratio.low, ratio.high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        axis.annotate(
            times(ratio.median),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(VALUES * 72 - 2, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            fontweight="bold",
            color=COLORS.get(row.verdict, INK),
        )
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows])
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks([0.25, 0.5, 1, 2, 4])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(axis="x", labelbottom=last, length=3)
    axis.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
