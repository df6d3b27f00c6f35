"""Write the report: one self-contained HTML page with all rows and charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.chapters import DESCRIPTIONS
from benchmarks.results import Results, Row, format_median, format_ratio

PAGE = Path(__file__).with_name("page.html")
#: chapter -> its chart; the first of the three with single calls has theirs.
CHARTS = {"servers": "servers", "echo": "echo", "selectors": "single-calls", "asyncio": "asyncio", "idle": "idle"}


def write(directory: Path, info: dict[str, Any], results: Results, charts: Iterable[Path]) -> Path:
    """Write the report with the SVG charts inline."""
    svgs = {path.stem: path.read_text() for path in charts if path.suffix == ".svg"}
    chapters = []
    for name, rows in groupby(results.rows, key=lambda row: row.chapter):
        tables = [_table(list(group)) for _, group in groupby(rows, key=lambda row: row.section)]
        chapters.append(
            f'<section><h2 id="{name}">{name}</h2><p>{escape(DESCRIPTIONS[name])}</p>'
            + '<div class="sides"><div>' + _figure(svgs, CHARTS.get(name, "")) + "</div>"
            + '<div class="tables">' + "".join(tables) + "</div>"
            + "</div></section>"
        )  # fmt: skip
    names = [name for name, _ in groupby(results.rows, key=lambda row: row.chapter)]
    page = Template(PAGE.read_text()).substitute(
        title=f"fastmux {escape(info['fastmux'])}: benchmarks",
        counts=_counts(results.rows),
        links=" ".join(f'<a href="#{name}">{name}</a>' for name in names),
        summary=_figure(svgs, "benchmark"),
        chapters="\n".join(chapters),
        notes="".join(f"<li>{escape(note)}</li>" for note in results.notes),
        machine="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _machine(info).items()),
    )
    path = directory / "report.html"
    path.write_text(page)
    return path


def _counts(rows: list[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    words = {"faster": "faster", "slower": "slower", "unclear": "unclear"}
    words |= {"limit": "against the lower bound in C", "scale": "on scaling only"}
    return ", ".join(
        f'<span class="{verdict}">{counts[verdict]} {word}</span>' for verdict, word in words.items() if counts[verdict]
    )


def _figure(svgs: Mapping[str, str], name: str) -> str:
    return f"<figure>{svgs[name]}</figure>" if name in svgs else ""


def _table(rows: list[Row]) -> str:
    first = rows[0]
    lines = [
        f"<table><caption>{escape(first.section)}</caption><thead><tr><th></th><th>{escape(first.counterpart)}</th>"
        f"<th>{escape(first.subject)}</th><th>relative speed</th></tr></thead><tbody>"
    ]
    for row in rows:
        ratio = row.ratio
        theirs, ours = format_median(row.theirs), format_median(row.ours)
        lines.append(
            f"<tr><th>{escape(row.name)}</th><td>{theirs}</td><td>{ours}</td>"
            f'<td class="{row.verdict}"><b>{format_ratio(ratio.median)}</b> {row.verdict}'
            f"<small>{format_ratio(ratio.low)} to {format_ratio(ratio.high)}</small></td></tr>"
        )
    return "\n".join(lines) + "</tbody></table>"


def _machine(info: dict[str, Any]) -> dict[str, str]:
    peers = [f"{name} {version or 'not installed'}" for name, version in info["peers"].items()]
    return {
        "measured": f"{info['date'].replace('T', ' ')}, {'quick run' if info['quick'] else 'full run'}",
        "fastmux": f"{info['fastmux']}, implementation: {info['implementation']}",
        "Python": f"{info['python']}, {info['python_compiler']}",
        "kernel": f"Linux {info['kernel']}, {info['machine']}, {info['libc']}",
        "CPU": f"{info['cpu']}, {info['cpus']} CPUs, load before the run: {info['load']:.1f}",
        "open files": f"{info['open_files']:,}",
        "compiler": info["compiler"] or "none",
        "peers": ", ".join(peers),
        "pyperf": info["pyperf"],
        "duration": ", ".join(f"{name} {seconds:.0f} s" for name, seconds in info["seconds"].items()),
    }
