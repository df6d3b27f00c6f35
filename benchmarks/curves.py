"""The lines of the chapter idle: the time of one wait over the number of connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import drawing
from .drawing import BLUE, INK, ORANGE, VIOLET
from .idle import ACTIVE, FIRST
from .results import Middle, Results

COLORS = {"select": ORANGE, "poll": VIOLET, "epoll": BLUE}
STYLES = {"standard": (0, (1.2, 1.2)), "fastmux": "-"}
LABELS = {"standard": "select.{}", "fastmux": "Poller('{}')"}
HEIGHT, LEFT, BOTTOM = 3.4, 0.75, 0.5  # inches

Lines = dict[str, dict[int, Middle]]


def write(directory: Path, found: dict[str, Any], results: Results) -> list[Path]:
    """Draw what was measured, and return the files."""
    draw = {"idle": _draw_mechanisms, "scale": _draw_scale}
    return [path for name, lines in results.curves.items() for path in draw[name](directory, found, lines)]


def _axis(title: str, found: dict[str, Any], yscale: str, *more: str) -> tuple[Any, Any]:
    from matplotlib.ticker import FuncFormatter

    figure, top = drawing.new_figure(HEIGHT, title, found, *more)
    height = HEIGHT + top
    width = 1 - (LEFT + 0.12) / drawing.WIDTH
    box = LEFT / drawing.WIDTH, BOTTOM / height, width, (HEIGHT - BOTTOM - 0.1) / height
    axis = figure.add_axes(box)
    drawing.paint(axis)
    axis.set_xscale("log")
    axis.set_yscale(yscale)
    axis.tick_params(which="minor", colors=INK)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axis.set_xlabel(f"connections, {ACTIVE} of them active", color=INK)
    axis.set_ylabel("microseconds for one wait", color=INK)
    return figure, axis


def _plot(axis: Any, points: dict[int, Middle], library: str, color: str, label: str) -> None:
    """A line through the medians, in microseconds, and the middle half around it."""
    sizes = list(points)
    low, median, high = (
        [point._asdict()[name] * 1e6 for point in points.values()] for name in ("low", "median", "high")
    )
    axis.plot(
        sizes, median, linestyle=STYLES[library], color=color, linewidth=1.8, marker="o", markersize=3.5, label=label
    )
    axis.fill_between(sizes, low, high, color=color, alpha=0.25, linewidth=0)


def _draw_mechanisms(directory: Path, found: dict[str, Any], lines: Lines) -> list[Path]:
    title = "What idle connections cost"
    figure, axis = _axis(
        title, found, "log", "Dotted: the standard library, whose select takes no descriptor above 1023."
    )
    for line, points in lines.items():
        library, mechanism = line.split()
        _plot(axis, points, library, COLORS[mechanism], LABELS[library].format(mechanism))
    axis.legend(frameon=False, loc="upper left", labelcolor=INK, fontsize=8.5)
    return drawing.save(figure, directory, "idle", f"{title}: {_told(lines)}")


def _draw_scale(directory: Path, found: dict[str, Any], lines: Lines) -> list[Path]:
    sizes = list(lines["fastmux"])
    title = f"epoll, from {FIRST} to {sizes[-1]:,} connections"
    figure, axis = _axis(title, found, "linear", "All sizes in the same rounds. Shaded: the middle half of the rounds.")
    for library, points in lines.items():
        _plot(axis, points, library, BLUE if library == "fastmux" else ORANGE, LABELS[library].format("epoll"))
    highest = max(point.high for points in lines.values() for point in points.values())
    axis.set_ylim(0, highest * 1e6 * 1.35)
    axis.legend(frameon=False, loc="upper left", labelcolor=INK)
    return drawing.save(figure, directory, "scale", f"{title}: {_told(lines)}")


def _told(lines: Lines) -> str:
    """In words: the first and the last point of each line."""
    ends = [(line, next(iter(points.items())), list(points.items())[-1]) for line, points in lines.items()]
    return "; ".join(
        f"{line}: {first[1].median * 1e6:.2f} us among {first[0]:,}, {last[1].median * 1e6:.2f} among {last[0]:,}"
        for line, first, last in ends
    )
