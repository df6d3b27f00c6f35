"""The report: one HTML file with all rows and charts, which needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from .__main__ import CHAPTERS
from .charts import CHARTS
from .results import Results, Row, amount, times

PAGE = Path(__file__).with_name("page.html")
#: chapter -> charts of their own, before the bars
CURVES = {"idle": ("idle", "scale")}


def write(directory: Path, found: dict[str, Any], results: Results, drawn: Iterable[Path]) -> Path:
    """Write the report, with those charts in it that are SVG."""
    svgs = {path.stem: path.read_text() for path in drawn if path.suffix == ".svg"}
    chapters = []
    for name, rows in groupby(results.rows, key=lambda row: row.chapter):
        charts = [*CURVES.get(name, ()), CHARTS[name][0]]
        chapters.append(
            f'<section><h2 id="{name}">{name}</h2><p>{escape(CHAPTERS[name])}</p>'
            + '<div class="sides"><div>' + "".join(_figure(svgs, chart) for chart in charts) + "</div>"
            + '<div class="tables">' + "".join(_table(list(group)) for _, group in groupby(rows, _section)) + "</div>"
            + "</div></section>"
        )  # fmt: skip
    names = [name for name, _ in groupby(results.rows, key=lambda row: row.chapter)]
    page = Template(PAGE.read_text()).substitute(
        title=f"fastmux {escape(found['fastmux'])}: benchmarks",
        counts=_counts(results.rows),
        links=" ".join(f'<a href="#{name}">{name}</a>' for name in names),
        summary=_figure(svgs, "benchmark"),
        chapters="\n".join(chapters),
        notes="".join(f"<li>{escape(note)}</li>" for note in results.notes),
        machine="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(found).items()),
    )
    path = directory / "report.html"
    path.write_text(page)
    return path


def _section(row: Row) -> str:
    return row.section


def _counts(rows: list[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    words = {"faster": "faster", "slower": "slower", "unclear": "unclear"}
    words |= {"limit": "against C, which is the limit", "scale": "about scale alone"}
    return ", ".join(
        f'<span class="{verdict}">{counts[verdict]} {word}</span>' for verdict, word in words.items() if counts[verdict]
    )


def _figure(svgs: Mapping[str, str], name: str) -> str:
    return f"<figure>{svgs[name]}</figure>" if name in svgs else ""


def _table(rows: list[Row]) -> str:
    first = rows[0]
    lines = [
        f"<table><caption>{escape(first.section)}</caption><thead><tr><th></th><th>{escape(first.counterpart)}</th>"
        f"<th>{escape(first.subject)}</th><th>times as fast</th></tr></thead><tbody>"
    ]
    for row in rows:
        ratio = row.ratio
        lines.append(
            f"<tr><th>{escape(row.name)}</th><td>{amount(row.theirs.median())}</td><td>{amount(row.ours.median())}</td>"
            f'<td class="{row.verdict}"><b>{times(ratio.median)}</b> {row.verdict}'
            f"<small>{times(ratio.low)} to {times(ratio.high)}</small></td></tr>"
        )
    return "\n".join(lines) + "</tbody></table>"


def _facts(found: dict[str, Any]) -> dict[str, str]:
    """What is worth telling of the machine, in words."""
    peers = [f"{name} {version or 'not installed'}" for name, version in found["peers"].items()]
    return {
        "measured": f"{found['date'].replace('T', ' ')}, {'a quick run' if found['quick'] else 'a full run'}",
        "fastmux": f"{found['fastmux']}, implementation: {found['implementation']}",
        "Python": f"{found['python']}, {found['python_compiler']}",
        "kernel": f"Linux {found['kernel']}, {found['machine']}, {found['libc']}",
        "CPU": f"{found['cpu']}, {found['cpus']} CPUs, load before: {found['load']:.1f}",
        "open files": f"{found['open_files']:,}",
        "compiler": found["compiler"] or "none",
        "peers": ", ".join(peers),
        "pyperf": found["pyperf"],
        "took": ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found["seconds"].items()),
    }
