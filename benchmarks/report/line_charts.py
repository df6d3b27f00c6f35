"""Draw line charts of the chapter idle: time per wait over the number of connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.chapters.idle import ACTIVE
from benchmarks.results import Quartiles, Results

from . import figure
from .figure import COLORS, INK

STYLES = {"standard": (0, (1.2, 1.2)), "fastmux": "-"}
LABELS = {"standard": "select.{}", "fastmux": "Poller('{}')"}
HEIGHT, LEFT, BOTTOM = 3.4, 0.85, 0.5  # inches

Lines = dict[str, dict[int, Quartiles]]


def write(directory: Path, info: dict[str, Any], results: Results) -> list[Path]:
    """Draw the curves if they were measured; return the files."""
    return _draw(directory, info, results.curves["idle"]) if "idle" in results.curves else []


def _new_chart(title: str, info: dict[str, Any], legend: str) -> tuple[Any, Any]:
    from matplotlib.ticker import FuncFormatter

    chart, top = figure.new_figure(HEIGHT, title, info, legend)
    height = HEIGHT + top
    width = 1 - (LEFT + 0.12) / figure.WIDTH
    box = LEFT / figure.WIDTH, BOTTOM / height, width, (HEIGHT - BOTTOM - 0.1) / height
    axes = chart.add_axes(box)
    figure.style_axes(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.tick_params(which="minor", colors=INK)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_xlabel(f"connections, {ACTIVE} of them active", color=INK)
    axes.set_ylabel("time per wait (µs)", color=INK)
    return chart, axes


def _plot(axes: Any, points: dict[int, Quartiles], library: str, color: str, label: str) -> None:
    """Plot the medians in microseconds; shade the interquartile range."""
    sizes = list(points)
    low, median, high = (
        [point._asdict()[name] * 1e6 for point in points.values()] for name in ("low", "median", "high")
    )
    axes.plot(
        sizes, median, linestyle=STYLES[library], color=color, linewidth=1.8, marker="o", markersize=3.5, label=label
    )
    axes.fill_between(sizes, low, high, color=color, alpha=0.25, linewidth=0)


def _draw(directory: Path, info: dict[str, Any], lines: Lines) -> list[Path]:
    title = "Cost of idle connections"
    limit = "whose select takes no descriptor above 1023"
    legend = f"Dotted: the standard library, {limit}. Shaded: the middle half of the rounds."
    chart, axes = _new_chart(title, info, legend)
    for line, points in lines.items():
        library, mechanism = line.split()
        _plot(axes, points, library, COLORS[mechanism], LABELS[library].format(mechanism))
    axes.legend(frameon=False, loc="upper left", labelcolor=INK, fontsize=8.5)
    return figure.save(chart, directory, "idle", f"{title}: {_end_points(lines)}")


def _end_points(lines: Lines) -> str:
    """Describe the first and the last point of each line."""
    ends = [(line, next(iter(points.items())), list(points.items())[-1]) for line, points in lines.items()]
    return "; ".join(
        f"{line}: {first[1].median * 1e6:.2f} us among {first[0]:,}, {last[1].median * 1e6:.2f} among {last[0]:,}"
        for line, first, last in ends
    )
