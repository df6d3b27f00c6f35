"""What all charts share: sizes for a phone, colours for light and dark pages, and how they are saved.

A chart is as wide as a phone's column and its letters are as large as text there. The background is transparent, and
no colour is too close to white or to a dark page: a picture cannot know the theme of the page that shows it. In an SVG
that is part of a page, as in the report, text and lines take the colour that the page gives to .chart.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

from . import machine

WIDTH = 4.2  # inches
LABEL = 9.5  # points

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "font.size": LABEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "fastmux",  # the same chart is the same file
})  # fmt: skip

#: The first one, as far from white as from a dark page, becomes currentColor in the SVG.
INK = "#717a85"
BLUE, ORANGE, VIOLET, GREY = "#1b7fb5", "#cc5500", "#8f5fe0", "#777f8a"


def text_width(text: str) -> float:
    """Inches that a text takes, in the size of labels."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=LABEL).get_extents().width) / 72


def paint(axis: Any) -> None:
    """Draw what belongs to the axes in the ink."""
    axis.set_facecolor("none")
    axis.tick_params(colors=INK)
    for spine in axis.spines.values():
        spine.set_color(INK)


def new_figure(height: float, title: str, found: dict[str, Any], *more: str) -> tuple[Any, float]:
    """Make a figure with a title and what was measured on; return it with the inches that these take."""
    from matplotlib import pyplot

    wrapped = "\n".join(textwrap.wrap(title, 38))
    lines = [line for text in (machine.title(found), *more) for line in textwrap.wrap(text, 60)]
    heading = 0.23 * len(wrapped.splitlines()) + 0.06
    top = heading + 0.16 * len(lines) + 0.05
    height += top
    figure: Any = pyplot.figure(figsize=(WIDTH, height))
    figure.text(0.01, 1 - 0.03 / height, wrapped, va="top", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.01, 1 - heading / height, "\n".join(lines), va="top", fontsize=9, color=INK)
    return figure, top


def save(figure: Any, directory: Path, name: str, alternative: str) -> list[Path]:
    """Write a chart as PNG and SVG, and return the files."""
    from matplotlib import pyplot

    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    figure.savefig(png, dpi=200, transparent=True)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, transparent=True, metadata=nothing)
    pyplot.close(figure)
    text = svg.read_text()
    text = text[text.index("<svg ") :].replace(INK, "currentColor")
    label = alternative.replace('"', "'")
    opening = f'<svg class="chart" color="{INK}" role="img" aria-label="{label}" '
    svg.write_text(text.replace("<svg ", opening, 1))
    return [png, svg]
