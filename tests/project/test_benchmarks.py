"""The benchmarks by their command line: their files are complete and consistent. No test depends on a figure."""

from __future__ import annotations

import html
import html.parser
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyperf", reason="pip install '.[bench]'")
pytest.importorskip("rich", reason="pip install '.[bench]'")
pytest.importorskip("matplotlib", reason="pip install '.[bench]'")
pytest.importorskip("uvicorn", reason="pip install '.[bench]'")

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300
VOID = {"meta", "br", "hr", "img", "link", "input"}


def benchmarks(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *arguments]


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the files of a quick run of three chapters."""
    directory = tmp_path_factory.mktemp("results")
    run(*benchmarks("--quick", "select", "asyncio", "idle", "--output", str(directory)))
    return directory


class Reader(html.parser.HTMLParser):
    """Checks that every element is closed, and collects the rows of the tables and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[tuple[str, str]] = []
        self.caption = ""
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((self.caption, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["caption"]:
            self.caption = data
        elif "tbody" in self.open:
            self.rows[-1] = (self.caption, f"{self.rows[-1][1]} {data}".strip())


@pytest.fixture
def report(results: Path) -> Reader:
    reader = Reader()
    reader.feed((results / "report.html").read_text())
    reader.close()
    assert reader.open == []
    return reader


def rows_of(results: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((results / "benchmark.json").read_text())["rows"]
    return rows


def shown(ratio: float) -> str:
    """Format a ratio as the report does: three digits."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def test_the_report_holds_every_row_with_its_ratio_and_its_spread(results, report):
    rows = rows_of(results)
    assert {row["chapter"] for row in rows} == {"select", "asyncio", "idle"}

    for row in rows:
        ratio = row["ratio"]
        parts = [shown(ratio["median"]), row["verdict"], f"{shown(ratio['low'])} to {shown(ratio['high'])}"]
        found = [text for caption, text in report.rows if caption == row["section"] and text.startswith(row["name"])]
        assert any(all(part in text for part in parts) for text in found), row


def test_the_report_needs_no_other_file(results, report):
    text = (results / "report.html").read_text()
    references = [value for name, value in report.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]

    assert [value for value in references if not value.startswith("#")] == []
    assert re.findall(r"url\((?!#)[^)]*\)|@import|<script|<link", text) == []


def test_the_report_fits_a_phone(results, chromium, tmp_path):
    page = html.escape((results / "report.html").read_text())
    script = (
        "const shown = document.querySelector('iframe').contentDocument.documentElement;"
        "document.title = `${shown.clientWidth} ${shown.scrollWidth}`"
    )
    phone = f'<iframe style="width:390px;height:800px;border:0" srcdoc="{page}" onload="{script}"></iframe>'
    (tmp_path / "phone.html").write_text(f"<!doctype html><title></title>{phone}")

    document = run(*chromium, "--dump-dom", (tmp_path / "phone.html").as_uri())

    title = re.search(r"<title>(\d+) (\d+)</title>", document)
    assert title is not None, document[:500]
    width, scrollable = map(int, title.groups())
    assert (width > 360, scrollable) == (True, width)


def test_each_chart_is_there_as_png_and_svg(results):
    for name in ("single-calls", "asyncio", "idle"):
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (results / f"{name}.svg").read_text()
        assert svg.startswith("<svg ")
        assert "currentColor" in svg


def test_pyperf_reads_the_measurements_and_compares_the_same_rows(results):
    titles = [
        f"{row['section']}: {row['name']}" for row in json.loads((results / "benchmark.json").read_text())["rows"]
    ]

    output = run(sys.executable, "-m", "pyperf", "compare_to", "-v", *map(str, pyperf_files(results)))

    assert [title for title in titles if title not in output] == []


def test_a_size_is_reported_in_bytes():
    program = "from benchmarks.results import *; print(format_median(as_benchmark('memory', [1698.0], 'byte')))"

    assert run(sys.executable, "-c", program) == "1,698 B\n"


def pyperf_files(results: Path) -> list[Path]:
    return [results / "counterparts.json", results / "fastmux.json"]


def test_a_report_can_be_made_again_from_the_measurements(results, tmp_path):
    for path in (*pyperf_files(results), results / "benchmark.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())

    run(*benchmarks("--redraw", "--output", str(tmp_path)))

    for name in ("report.html", "idle.svg", "asyncio.svg", "single-calls.svg"):
        assert (tmp_path / name).read_text() == (results / name).read_text()


def test_tables_are_written_between_the_markers_of_a_page(results, tmp_path):
    page = tmp_path / "page.md"
    names = ("asyncio", "calls", "slower", "other")
    page.write_text("before\n" + "".join(f"<!-- table: {name} -->\nold\n<!-- end -->\n" for name in names) + "after\n")
    program = (
        "import sys; from pathlib import Path; from benchmarks import result_files; "
        "from benchmarks.report import tables; "
        "tables.update(Path(sys.argv[1]), *result_files.read(Path(sys.argv[2])))"
    )

    run(sys.executable, "-c", program, str(page), str(results))

    first = page.read_text()
    parts = dict(re.findall("<!-- table: (.*?) -->\n(.*?)<!-- end -->\n", first, re.DOTALL))
    assert first.startswith("before\n<!-- table: asyncio -->\n\nPython ")
    assert first.endswith("<!-- table: other -->\nold\n<!-- end -->\nafter\n")
    rows = rows_of(results)
    expected = [("asyncio", row["name"], row) for row in rows if row["chapter"] == "asyncio"]
    expected += [("calls", row["section"], row) for row in rows if row["chapter"] == "select"]
    expected += [
        ("slower", f"{row['section']}: {row['name']}", row) for row in rows if row["verdict"] == "slower"
    ]  # "slower" is missing if there is none
    missing = [
        (place, row)
        for place, start, row in expected
        if not any(
            line.startswith(f"| {start}") and shown(row["ratio"]["median"]) in line
            for line in parts[place].splitlines()
        )
    ]
    assert {place for place, _, _ in expected} >= {"asyncio", "calls"}
    assert missing == []

    run(sys.executable, "-c", program, str(page), str(results))
    assert page.read_text() == first


def test_an_interrupted_run_keeps_the_chapters_that_are_done(tmp_path):
    command = benchmarks("--quick", "select", "idle", "--output", str(tmp_path))
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("select: "):
                break
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=TIMEOUT)

    assert running.returncode == 130
    assert errors == "interrupted; kept: select; missing: idle\n"
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert {row["chapter"] for row in document["rows"]} == {"select"}
    assert "Incomplete run" in (tmp_path / "report.html").read_text()


def evaluate(expression: str) -> Any:
    """Evaluate an expression of a fresh interpreter that uses modules of benchmarks."""
    imports = "import json; from benchmarks import run; from benchmarks.report import bar_charts, figure"
    return json.loads(run(sys.executable, "-c", f"{imports}; print(json.dumps({expression}))"))


def test_text_is_dark_on_light_pages_and_light_on_dark_ones():
    ink, paper, dark_ink, dark_paper = evaluate("[figure.INK, figure.PAPER, figure.DARK_INK, figure.DARK_PAPER]")

    assert contrast(ink, paper) > 10
    assert contrast(dark_ink, dark_paper) > 10


def test_no_color_of_a_chart_is_too_close_to_a_light_or_a_dark_page():
    colors, pages = evaluate("[list(figure.COLORS.values()), [figure.PAPER, figure.DARK_PAPER]]")

    assert [(color, page) for color in colors for page in pages if contrast(color, page) < 3] == []
    assert len(set(colors)) == len(colors)


def test_the_chart_of_the_readme_has_at_most_eight_bars():
    assert evaluate("sum(map(len, bar_charts.SUMMARY.values()))") <= 8


def test_each_bar_belongs_to_a_row_that_is_measured():
    bars = evaluate(
        "[bar for charts in (bar_charts.SUMMARY, bar_charts.CALLS) for panel in charts.values() "
        "for bar in panel.values()]"
    )
    calls = evaluate(
        "[(chapter, part.section, name.replace('{}', f'{size:,}')) for chapter in ('poll', 'selectors', 'select') "
        "for part in run.CHAPTERS[chapter].comparisons for name in part.rows for size in part.registered]"
    )
    servers = evaluate(
        "[(name, run.CHAPTERS[name].heading.format(subject, counterpart), workload.title + ', after load') "
        "for name in ('servers', 'echo') for subject, others in run.CHAPTERS[name].comparisons.items() "
        "for counterpart in others for workload in run.CHAPTERS[name].workloads]"
    )
    rows = calls + servers

    missing = [
        (chapter, section, name)
        for chapter, section, name in bars
        if not any(row[0] == chapter and row[1].startswith(section) and row[2] == name for row in rows)
    ]
    assert missing == []


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio by WCAG 2: 1 to 21."""
    darker, lighter = sorted(luminance(color) for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))
