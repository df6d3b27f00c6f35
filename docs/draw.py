"""Draw the diagrams of the pages: ``python docs/draw.py`` writes calls.svg, triggers.svg and journey.svg to docs/.

The files contain light and dark colours; the browser selects by the preference of the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

INK, SOFT, LINE, PAPER = "#1f2937", "#4b5563", "#9ca3af", "#ffffff"
READY, TOUCHED, LEFT = "#0b6e99", "#fde9c8", "#f3b4a4"
#: The colours on a dark page, by the light ones.
DARK = {
    INK: "#e5e7eb",
    SOFT: "#b6bcc6",
    LINE: "#6b7280",
    PAPER: "#17191c",
    READY: "#4fb3d9",
    TOUCHED: "#5c4a2a",
    LEFT: "#7a3b2e",
}
WIDTH = 960
#: The width of a diagram for phones.
NARROW = 440
SLOTS = 12
READY_SLOTS = (3, 8)


class Drawing:
    def __init__(self, height: int, about: str, width: int = WIDTH) -> None:
        dark = "".join(
            f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}' for light, dark in DARK.items()
        )
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" role="img">',
            f"<title>{about}</title>",
            f"<style>@media (prefers-color-scheme: dark){{{dark}}}</style>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        ]

    def text(self, x: float, y: float, words: str, size: int = 14, color: str = INK, style: str = "") -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" {style}>{words}</text>')

    def bold(self, x: float, y: float, words: str, size: int = 17) -> None:
        self.text(x, y, words, size, style='font-weight="bold"')

    def middle(self, x: float, y: float, words: str, size: int = 13, color: str = SOFT) -> None:
        halo = f'text-anchor="middle" paint-order="stroke" stroke="{PAPER}" stroke-width="6"'
        self.text(x, y, words, size, color, halo)

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str = LINE) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{fill}" stroke="{stroke}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = INK, how: str = "") -> None:
        self.parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{color}" stroke-width="1.6" {how}/>'
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.line(x1, y1, x2, y2, how='marker-end="url(#tip)"')

    def save(self, path: Path) -> None:
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def slots(drawing: Drawing, x: float, y: float, fill: Callable[[int], str], size: float = 20, gap: float = 4) -> None:
    for number in range(SLOTS):
        drawing.box(x + number * (size + gap), y, size, size, fill(number))


def touched(number: int) -> str:
    return READY if number in READY_SLOTS else TOUCHED


def untouched(number: int) -> str:
    return READY if number in READY_SLOTS else PAPER


def draw_calls(path: Path) -> None:
    """Draw one call of select, poll and epoll, with 12 watched descriptors of which 2 are ready."""
    drawing = Drawing(700, "One call of select, poll and epoll")
    left, border, right = 30, 494, 620
    drawing.bold(left, 34, "your program")
    drawing.bold(right, 34, "the kernel")
    drawing.line(border, 14, border, 640, LINE, 'stroke-dasharray="6 5"')

    top = 62
    drawing.bold(left, top + 10, "select")
    for row, name in enumerate(("read", "write", "urgent")):
        drawing.text(left, top + 41 + 26 * row, name, 13, SOFT)
        slots(drawing, left + 56, top + 26 + 26 * row, touched if row == 0 else lambda _: TOUCHED)
    drawing.text(left, top + 124, "three bitmaps, as long as the highest descriptor;", 13, SOFT)
    drawing.text(left, top + 142, "rebuilt before each call, searched after it", 13, SOFT)
    exchange(drawing, top + 40, "all bits in", top + 84, "all bits out")
    slots(drawing, right, top + 48, touched)
    drawing.text(right, top + 92, "checks every file", 13, SOFT)
    drawing.text(right, top + 110, "then drops the list", 13, SOFT)
    drawing.line(left, top + 166, WIDTH - left, top + 166, LINE, 'stroke-opacity="0.4"')

    top = 258
    drawing.bold(left, top + 10, "poll")
    slots(drawing, left + 56, top + 40, touched)
    drawing.text(left, top + 84, "an array with one record per descriptor;", 13, SOFT)
    drawing.text(left, top + 102, "searched after the call", 13, SOFT)
    exchange(drawing, top + 32, "all records in", top + 76, "all records out")
    slots(drawing, right, top + 40, touched)
    drawing.text(right, top + 84, "checks every file", 13, SOFT)
    drawing.text(right, top + 102, "then drops the list", 13, SOFT)
    drawing.line(left, top + 128, WIDTH - left, top + 128, LINE, 'stroke-opacity="0.4"')

    top = 416
    drawing.bold(left, top + 10, "epoll")
    for number in range(len(READY_SLOTS)):
        drawing.box(left + 56 + 24 * number, top + 120, 20, 20, READY)
    drawing.text(left, top + 164, "only the ready ones; nothing to search", 13, SOFT)
    drawing.text(left, top + 44, "epoll_ctl registers each descriptor once,", 13, SOFT)
    drawing.text(left, top + 62, "and removes it when the client leaves", 13, SOFT)
    exchange(drawing, top + 50, "once per client", top + 130, "ready ones out")
    slots(drawing, right, top + 40, untouched)
    for number, slot in enumerate(READY_SLOTS):
        x = right + 24 * slot + 10
        drawing.line(x, top + 62, x, top + 92, READY)
        drawing.line(x, top + 92, right + 24 * number + 10, top + 92, READY)
        drawing.arrow(right + 24 * number + 10, top + 92, right + 24 * number + 10, top + 117)
        drawing.box(right + 24 * number, top + 120, 20, 20, READY)
    drawing.text(right, top + 28, "the interest list stays here", 13, SOFT)
    drawing.text(right + 60, top + 135, "the ready list: the kernel adds", 13, SOFT)
    drawing.text(right + 60, top + 153, "a file when data arrives", 13, SOFT)

    drawing.box(left, 660, 16, 16, READY)
    drawing.text(left + 24, 673, "ready", 13)
    drawing.box(left + 110, 660, 16, 16, TOUCHED)
    drawing.text(left + 134, 673, "checked, not ready", 13)
    drawing.box(left + 330, 660, 16, 16, PAPER)
    drawing.text(left + 354, 673, "not checked", 13)
    drawing.save(path)


def exchange(drawing: Drawing, y_in: float, words_in: str, y_out: float, words_out: str) -> None:
    """Draw the two arrows of one call."""
    drawing.arrow(380, y_in, 608, y_in)
    drawing.middle(494, y_in - 8, words_in)
    drawing.arrow(608, y_out, 380, y_out)
    drawing.middle(494, y_out - 8, words_out)


#: Name, behaviour of the reader, unread bytes at each of eight moments, moments of a report.
TRIGGERS = (
    ("level-triggered", "one read per report", (0, 100, 60, 20, 0, 30, 0, 0), (1, 2, 3, 5)),
    ("edge-triggered", "one read per report: wrong", (0, 100, 60, 60, 60, 90, 50, 50), (1, 5)),
    ("edge-triggered", "reads until it would block", (0, 100, 0, 0, 0, 30, 0, 0), (1, 5)),
)


def draw_triggers(path: Path) -> None:
    """Draw the reports of a socket that receives 100 bytes and later 30, with reads of 40 bytes."""
    drawing = Drawing(480, "When level-triggered and edge-triggered waits report a socket")
    left, unit = 270, 76
    drawing.bold(30, 34, "100 bytes arrive, later 30; a read takes 40")
    for row, (name, reader, amounts, reports) in enumerate(TRIGGERS):
        base = 160 + 115 * row
        drawing.bold(30, base - 26, name, 15)
        drawing.text(30, base - 6, reader, 13, SOFT)
        for step, amount in enumerate(amounts):
            x = left + unit * step
            if amount:
                unread = name != "level-triggered" and step not in reports
                drawing.box(x, base - 0.7 * amount, unit, 0.7 * amount, LEFT if unread else TOUCHED)
                drawing.text(x + unit / 2, base - 5, str(amount), 13, style='text-anchor="middle"')
            if step in reports:
                drawing.parts.append(f'<circle cx="{x + 10}" cy="{base + 14}" r="7" fill="{READY}"/>')
        drawing.line(left, base, WIDTH - 40, base, LINE)
    for step, words in ((1, "100 arrive"), (5, "30 arrive")):
        x = left + unit * step
        drawing.middle(x, 66, words)
        drawing.line(x, 74, x, 400, LINE, 'stroke-dasharray="3 5"')
    drawing.parts.append(f'<circle cx="38" cy="452" r="7" fill="{READY}"/>')
    drawing.text(54, 457, "a wait reports the socket", 13)
    drawing.box(290, 444, 16, 16, TOUCHED)
    drawing.text(314, 457, "bytes that a wait reports", 13)
    drawing.box(530, 444, 16, 16, LEFT)
    drawing.text(554, 457, "bytes that no wait reports", 13)
    drawing.save(path)


#: Descriptor, generation and tag of each file in the ready list. The generation of the second one is outdated.
JOURNEY = ((7, 41, 0), (9, 12, 1), (12, 43, 2))
STALE = 9


def draw_journey(path: Path) -> None:
    """Draw the way of three reports from the ready list to the list in Python."""
    drawing = Drawing(700, "From the kernel's ready list to the list of a Poller", NARROW)
    left, row = 20, 30
    found = [(fd, tag) for fd, _, tag in JOURNEY if fd != STALE]

    drawing.bold(left, 34, "the kernel")
    drawing.text(left, 58, "the ready list", 15, SOFT)
    for number, (fd, _, _) in enumerate(JOURNEY):
        cell(drawing, 258 + 56 * number, 72, 50, str(fd), READY, PAPER)

    drawing.arrow(340, 106, 340, 196)
    drawing.text(left, 140, "1. The system call writes", 15)
    drawing.text(left, 160, "one record per ready file.", 15)

    top = 232
    drawing.bold(left, top - 16, "the array, owned by Python")
    for column, name in enumerate(("fd", "events", "tag")):
        drawing.text(left + 4 + 60 * column, top + 10, name, 14, SOFT)
    drawing.text(262, top + 10, "events · fd · generation", 13, SOFT)
    for number, (fd, generation, _) in enumerate(JOURNEY):
        y = top + 20 + row * number
        cell(drawing, 258, y, 162, f"READ · {fd} · {generation}", LEFT if fd == STALE else TOUCHED)
        values = (str(found[number][0]), "READ", str(found[number][1])) if number < len(found) else ("", "", "")
        for column, value in enumerate(values):
            cell(drawing, left + 60 * column, y, 60, value, TOUCHED if value else PAPER)
    drawing.arrow(252, top + 35, 206, top + 35)
    drawing.arrow(252, top + 95, 206, top + 67)
    drawing.text(258, top + 130, "9: old generation,", 14, SOFT)
    drawing.text(258, top + 148, "dropped", 14, SOFT)
    drawing.text(left, top + 176, "2. The core checks the generations and", 15)
    drawing.text(left, top + 196, "writes the rest into three columns.", 15)
    drawing.text(left, top + 226, "3. wait() returns 2; fds[:2] and events[:2]", 15)
    drawing.text(left, top + 246, "are views of two columns.", 15)

    drawing.arrow(100, top + 258, 100, top + 348)
    drawing.text(120, top + 296, "4. poll() returns a list", 15)
    drawing.text(120, top + 316, "that C code builds.", 15)
    top += 388
    drawing.bold(left, top - 16, "your program")
    drawing.box(left, top, 400, 40, PAPER)
    result = ", ".join(f"({fd}, READ)" for fd, _ in found)
    drawing.text(NARROW / 2, top + 26, f"[{result}]", 17, style='text-anchor="middle"')
    drawing.save(path)


def cell(drawing: Drawing, x: float, y: float, width: float, words: str, fill: str, color: str = INK) -> None:
    drawing.box(x, y, width, 30, fill)
    drawing.text(x + width / 2, y + 20, words, 15, color, 'text-anchor="middle"')


if __name__ == "__main__":
    here = Path(__file__).parent
    draw_calls(here / "calls.svg")
    draw_triggers(here / "triggers.svg")
    draw_journey(here / "journey.svg")
