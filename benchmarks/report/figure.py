"""Shared parts of all charts: sizes for a phone, colors, and files.

A chart is as wide as a phone's column, with letters of normal text size. A PNG is for a light page. An SVG has the same
colors, and light letters on dark where the reader prefers dark pages: the colors of the lines contrast with both.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks import machine

WIDTH = 4.2  # inches
LABEL = 9.5  # points

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "font.size": LABEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "fastmux",  # reproducible files
})  # fmt: skip

INK, PAPER = "#1f2937", "#ffffff"
#: The same on dark pages, in SVG only.
DARK_INK, DARK_PAPER = "#e5e7eb", "#17191c"
#: One color for each mechanism and each counterpart, in all charts.
COLORS = {
    "epoll": "#1b7fb5",
    "poll": "#8f5fe0",
    "select": "#cc5500",
    "standard library": "#777f8a",
    "uvloop": "#2f8f4e",
    "rloop": "#c2417c",
    "gevent": "#a5722a",
    "trio": "#0b8a8a",
}
#: Counterparts that are parts of the standard library.
STANDARD = ("asyncio", "selectors", "standard")
STYLE = (
    f".chart{{color:{INK};--paper:{PAPER}}}"
    f"@media(prefers-color-scheme:dark){{.chart{{color:{DARK_INK};--paper:{DARK_PAPER}}}}}"
)


def color_of(counterpart: str) -> str:
    """Return the color of a counterpart; that of the text, if it is fastmux itself."""
    return COLORS.get("standard library" if counterpart in STANDARD else counterpart, INK)


def text_width(text: str) -> float:
    """Return the width of a label in inches."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=LABEL).get_extents().width) / 72


def style_axes(axes: Any) -> None:
    """Color ticks and spines in INK."""
    axes.set_facecolor("none")
    axes.tick_params(colors=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def new_figure(height: float, title: str, info: dict[str, Any], legend: str) -> tuple[Any, float]:
    """Create a figure with a title, the legend and the machine below; return it with their height in inches."""
    from matplotlib import pyplot

    heading = textwrap.wrap(title, 40)
    lines = textwrap.wrap(legend, 60)
    heading_height = 0.22 * len(heading) + 0.06
    text_height = 0.155 * len(lines) + 0.04
    top = heading_height + text_height + 0.2
    height += top
    figure: Any = pyplot.figure(figsize=(WIDTH, height), facecolor=PAPER)
    at = 1 - 0.04 / height
    for text, size, weight, used in (
        ("\n".join(heading), 12, "bold", heading_height),
        ("\n".join(lines), 9, "normal", text_height),
        (machine.title(info), 7.5, "normal", 0),
    ):
        figure.text(0.015, at, text, va="top", fontsize=size, fontweight=weight, color=INK)
        at -= used / height
    return figure, top


def set_speed_scale(axes: Any, low: float, high: float) -> None:
    """Make the horizontal axis a scale of relative speed from low to high, with a line at 1."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low / 1.15, high * 1.15)  # leaves room for the arrowheads
    style_axes(axes)
    axes.axvline(1, color=INK, linewidth=1, zorder=1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([tick for tick in (0.25, 0.5, 1, 2, 4, 8) if low <= tick <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="x", length=3)
    axes.grid(axis="x", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: Any, directory: Path, name: str, alternative: str) -> list[Path]:
    """Write a chart as PNG and SVG; return the files."""
    from matplotlib import pyplot

    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    figure.savefig(png, dpi=200)
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, metadata=no_metadata)
    pyplot.close(figure)
    text = svg.read_text()
    text = text[text.index("<svg ") :].replace(INK, "currentColor").replace(PAPER, f"var(--paper, {PAPER})")
    label = alternative.replace('"', "'")
    opening = f'<svg class="chart" role="img" aria-label="{label}" '
    before, tag, after = text.replace("<svg ", opening, 1).partition(">")
    svg.write_text(f"{before}{tag}\n <style>{STYLE}</style>{after}")
    return [png, svg]
