"""The picture of a run: connections, descriptors and memory over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verdict import MIB

INK, SOFT, PAPER, GRID = "#1f2937", "#4b5563", "#ffffff", "#e5e7eb"
PANELS = (
    ("connections", "open connections", "#0b6e99", 1),
    ("descriptors", "the server's open descriptors", "#6d28d9", 1),
    ("memory", "the server's resident memory, MiB", "#b45309", MIB),
)


def draw(path: Path, document: dict[str, Any]) -> None:
    """Draw with a background and in large print, for light and dark pages and small screens."""
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    pyplot.rcParams.update({"font.size": 16, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK})
    figure: Any
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 11), sharex=True, layout="constrained", facecolor=PAPER)
    samples = document["samples"]
    times = [sample["seconds"] / 60 for sample in samples]
    at_rest = [(time, sample) for time, sample in zip(times, samples) if sample["phase"] == "rest"]
    for axis, (name, label, color, unit) in zip(axes, PANELS):
        axis.plot(times, [sample[name] / unit for sample in samples], color=color, linewidth=2)
        axis.set_title(label, loc="left", fontsize=17, color=color)
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.grid(axis="y", color=GRID)
        axis.tick_params(colors=SOFT)
        if name != "connections":
            axis.plot([time for time, _ in at_rest], [sample[name] / unit for _, sample in at_rest], "o", color=INK)
            for place, (time, sample) in enumerate(at_rest):
                how = {"ha": "left" if place == 1 else "right", "textcoords": "offset points"}
                axis.annotate(f"{sample[name] / unit:,.0f}", (time, sample[name] / unit), xytext=(0, 9), **how)
    axes[-1].set_xlabel("minutes; points: at rest, without a client", color=SOFT)
    totals = document["totals"]
    figure.suptitle(
        f"{totals['connected']:,} connections, {totals['received'] / 1e9:,.0f} GB echoed",
        x=0.02,
        ha="left",
        fontsize=20,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
