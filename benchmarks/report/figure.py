"""Shared parts of all charts: sizes for a phone, colors for light and dark pages, and files.

A chart is as wide as a phone's column, with letters of normal text size. The background is transparent, and every color
contrasts with white and with dark pages, because an image cannot know the theme of its page. In an inline SVG, as in
the report, text and lines take the color that the page sets for .chart.
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

#: Equally far from white and from a dark page; becomes currentColor in the SVG.
INK = "#717a85"
BLUE, ORANGE, VIOLET, GREY = "#1b7fb5", "#cc5500", "#8f5fe0", "#777f8a"


def text_width(text: str) -> float:
    """Return the width of a label in inches."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=LABEL).get_extents().width) / 72


def style_axes(axes: Any) -> None:
    """Make the background transparent; color ticks and spines in INK."""
    axes.set_facecolor("none")
    axes.tick_params(colors=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def new_figure(height: float, title: str, info: dict[str, Any], *more: str) -> tuple[Any, float]:
    """Create a figure with a title and the machine below; return it with the height of this heading in inches."""
    from matplotlib import pyplot

    wrapped = "\n".join(textwrap.wrap(title, 38))
    lines = [line for text in (machine.title(info), *more) for line in textwrap.wrap(text, 60)]
    title_height = 0.23 * len(wrapped.splitlines()) + 0.06
    top = title_height + 0.16 * len(lines) + 0.05
    height += top
    figure: Any = pyplot.figure(figsize=(WIDTH, height))
    figure.text(0.01, 1 - 0.03 / height, wrapped, va="top", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.01, 1 - title_height / height, "\n".join(lines), va="top", fontsize=9, color=INK)
    return figure, top


def save(figure: Any, directory: Path, name: str, alternative: str) -> list[Path]:
    """Write a chart as PNG and SVG; return the files."""
    from matplotlib import pyplot

    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    figure.savefig(png, dpi=200, transparent=True)
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, transparent=True, metadata=no_metadata)
    pyplot.close(figure)
    text = svg.read_text()
    text = text[text.index("<svg ") :].replace(INK, "currentColor")
    label = alternative.replace('"', "'")
    opening = f'<svg class="chart" color="{INK}" role="img" aria-label="{label}" '
    svg.write_text(text.replace("<svg ", opening, 1))
    return [png, svg]
