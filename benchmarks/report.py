"""The table, the chart and the JSON file."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from . import machine
from .micro import FLOOR
from .results import Results, Row

COLORS = {"faster": "#0b6e99", "slower": "#c2410c", "unclear": "#6b7280"}


def write_json(path: Path, found: dict[str, Any], settings: dict[str, Any], results: Results) -> None:
    rows = [dataclasses.asdict(row) | {"verdict": row.verdict} for row in results.rows]
    document = {"machine": found, "settings": settings, "rows": rows, "notes": results.notes, "raw": results.raw}
    path.write_text(json.dumps(document, indent=1) + "\n")


def amount(value: float, unit: str) -> str:
    if unit == "ns" and value >= 10_000:
        value, unit = value / 1000, "us"
    digits = 0 if unit in ("ns", "/s") or value >= 1000 else 1
    return f"{value:,.{digits}f} {unit}"


def heading(row: Row) -> tuple[str, str, str]:
    return row.section, row.counterpart, row.subject


def print_table(console: Any, found: dict[str, Any], results: Results) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"fastmux {found['fastmux']} ({found['implementation']}) and the standard library",
        caption=machine.title(found),
        box=box.SIMPLE_HEAD,
        title_style="bold",
        width=min(console.width, 100),
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True, min_width=30)
    table.add_column("standard\nlibrary", justify="right", no_wrap=True)
    table.add_column("fastmux", justify="right", no_wrap=True, vertical="bottom")
    table.add_column("times\nas fast", justify="right", no_wrap=True)
    table.add_column("middle half\nof rounds", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("times\nC's time", justify="right", no_wrap=True)
    style = {"faster": "green", "slower": "red", "unclear": "yellow", "limit": "dim"}
    for (section, counterpart, subject), rows in groupby(results.rows, key=heading):
        table.add_section()
        table.add_row(*(f"[bold]{text}[/bold]" for text in (section, counterpart, subject)))
        for row in rows:
            verdict = "limit" if section == FLOOR else row.verdict
            table.add_row(
                f"  {row.name}",
                amount(row.standard, row.unit),
                amount(row.fastmux, row.unit),
                f"[{style[verdict]}]{row.ratio:.2f}[/]",
                f"{row.low:.2f} - {row.high:.2f}",
                f"[{style[verdict]}]{verdict}[/]",
                "" if row.of_c is None else f"{row.of_c:.2f}",
            )
    console.print(table)
    for note in results.notes:
        console.print(f"Note: {note}")


def write_chart(path: Path, found: dict[str, Any], results: Results) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(key, list(rows)) for key, rows in groupby(results.rows, key=heading)]
    # The limit is no result, and StdlibPoller is part of fastmux.
    panels = [(key, rows) for key, rows in panels if key[0] != FLOOR and key[1] != "StdlibPoller"]
    longest = max(row.high for _, rows in panels for row in rows)
    heights = [0.33 * len(rows) + 0.36 for _, rows in panels]
    pyplot.rcParams.update({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(
        len(panels) + 1,
        1,
        figsize=(7.2, 2.2 + sum(heights)),
        height_ratios=[3, *(len(rows) for _, rows in panels)],
        layout="constrained",
    )
    _draw_header(axes[0], found)
    for axis, ((section, counterpart, subject), rows) in zip(axes[1:], panels):
        what = section.partition(",")[0] if subject == "Poller" else f"Poller.{subject}"
        _draw(axis, f"{what} against {counterpart}", rows, longest)
        axis.tick_params(labelbottom=axis is axes[-1])
    axes[-1].set_xlabel("times as fast as the standard library")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_header(axis: Any, found: dict[str, Any]) -> None:
    from matplotlib.patches import Patch

    axis.axis("off")
    figure = axis.get_figure()
    figure.suptitle(f"fastmux {found['fastmux']} against the standard library", fontsize=19, fontweight="bold")
    axis.legend(
        handles=[Patch(color=color, label=verdict) for verdict, color in COLORS.items()],
        title="\n".join(textwrap.wrap(machine.title(found), 58)) + "\nblack: the middle half of the rounds",
        alignment="left",
        loc="center right",
        ncols=3,
        frameon=False,
        handlelength=1,
    )


def _draw(axis: Any, title: str, rows: list[Row], longest: float) -> None:
    places = range(len(rows))
    axis.barh(places, [row.ratio for row in rows], height=0.74, color=[COLORS[row.verdict] for row in rows])
    axis.axvline(1, color="black", linewidth=1.2)
    for place, row in zip(places, rows):
        axis.plot([row.low, row.high], [place, place], color="black", linewidth=2, solid_capstyle="butt")
        axis.text(
            max(row.ratio, row.high) + longest * 0.02,
            place,
            f"{row.ratio:.2f}",
            va="center_baseline",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axis.set_yticks(places, [row.name for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    axis.set_xlim(0, longest * 1.16)
    axis.set_title(title, loc="left", fontsize=14, fontweight="bold")
