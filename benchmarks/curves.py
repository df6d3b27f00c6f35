"""The picture of the chapter idle: the time of one wait over the number of idle connections."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path
from typing import Any

from . import machine
from .idle import ACTIVE

COLORS = {"select": "#b45309", "poll": "#6d28d9", "epoll": "#0b6e99"}
STYLES = {"standard": ":", "fastmux": "-"}
LABELS = {
    "standard": {"select": "select.select", "poll": "select.poll", "epoll": "select.epoll"},
    "fastmux": {mechanism: f"fastmux.Poller({mechanism!r})" for mechanism in COLORS},
}


def draw(path: Path, found: dict[str, Any], measured: dict[str, dict[str, list[float]]]) -> None:
    """Draw the medians of {size: {"library mechanism": nanoseconds}}, with logarithmic axes."""
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    pyplot.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure: Any
    figure, axis = pyplot.subplots(figsize=(9.2, 6.4), layout="constrained")
    for library, style in STYLES.items():
        for mechanism, color in COLORS.items():
            points = {
                int(size): statistics.median(times[f"{library} {mechanism}"]) / 1000
                for size, times in measured.items()
                if f"{library} {mechanism}" in times
            }
            if not points:
                continue
            label = LABELS[library][mechanism]
            axis.plot(*zip(*points.items()), style, color=color, linewidth=2.2, marker="o", markersize=5, label=label)
            if len(points) < len(measured):
                last = max(points)
                axis.annotate(
                    "select.select\ntakes no descriptor\nabove 1023",
                    (last, points[last]),
                    xytext=(-14, 34),
                    textcoords="offset points",
                    ha="right",
                    fontsize=12,
                    color=color,
                    arrowprops={"arrowstyle": "-", "color": color},
                )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(axis="y", color="#e5e7eb")
    axis.set_xlabel(f"connections, {ACTIVE} of them active")
    axis.set_ylabel("microseconds for one wait")
    axis.set_title("What idle connections cost", loc="left", fontsize=17, fontweight="bold")
    axis.legend(frameon=False, loc="upper left")
    figure.supxlabel("\n".join(textwrap.wrap(machine.title(found), 90)), fontsize=11, color="#4b5563")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
