"""Draws the pictures of the pages: ``python docs/draw.py`` writes calls.svg, triggers.svg, journey.svg beside itself.

A reader who prefers dark pages gets them in dark colours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

INK, SOFT, LINE, PAPER = "#1f2937", "#4b5563", "#9ca3af", "#ffffff"
READY, TOUCHED, LEFT = "#0b6e99", "#fde9c8", "#f3b4a4"
#: What these are on dark paper.
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
#: For a picture that is to be read on a phone.
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
    """What each of the three does at each call, with 12 descriptors watched and 2 of them ready."""
    drawing = Drawing(700, "What select, poll and epoll do at each call")
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
    drawing.text(left, top + 142, "built anew for each call, and searched after it", 13, SOFT)
    exchange(drawing, top + 40, "all bits in", top + 84, "all bits out")
    slots(drawing, right, top + 48, touched)
    drawing.text(right, top + 92, "asks every file: are you ready?", 13, SOFT)
    drawing.text(right, top + 110, "then forgets the list", 13, SOFT)
    drawing.line(left, top + 166, WIDTH - left, top + 166, LINE, 'stroke-opacity="0.4"')

    top = 258
    drawing.bold(left, top + 10, "poll")
    slots(drawing, left + 56, top + 40, touched)
    drawing.text(left, top + 84, "an array with one record per descriptor;", 13, SOFT)
    drawing.text(left, top + 102, "searched after the call", 13, SOFT)
    exchange(drawing, top + 32, "all records in", top + 76, "all records out")
    slots(drawing, right, top + 40, touched)
    drawing.text(right, top + 84, "asks every file: are you ready?", 13, SOFT)
    drawing.text(right, top + 102, "then forgets the list", 13, SOFT)
    drawing.line(left, top + 128, WIDTH - left, top + 128, LINE, 'stroke-opacity="0.4"')

    top = 416
    drawing.bold(left, top + 10, "epoll")
    for number in range(len(READY_SLOTS)):
        drawing.box(left + 56 + 24 * number, top + 120, 20, 20, READY)
    drawing.text(left, top + 164, "only what is ready; nothing to search", 13, SOFT)
    drawing.text(left, top + 44, "epoll_ctl tells of each descriptor once,", 13, SOFT)
    drawing.text(left, top + 62, "when the client comes and when it goes", 13, SOFT)
    exchange(drawing, top + 50, "once for each client", top + 130, "ready ones out")
    slots(drawing, right, top + 40, untouched)
    for number, slot in enumerate(READY_SLOTS):
        x = right + 24 * slot + 10
        drawing.line(x, top + 62, x, top + 92, READY)
        drawing.line(x, top + 92, right + 24 * number + 10, top + 92, READY)
        drawing.arrow(right + 24 * number + 10, top + 92, right + 24 * number + 10, top + 117)
        drawing.box(right + 24 * number, top + 120, 20, 20, READY)
    drawing.text(right, top + 28, "the list of interest stays here", 13, SOFT)
    drawing.text(right + 60, top + 135, "the ready list: a file puts itself", 13, SOFT)
    drawing.text(right + 60, top + 153, "there when data arrives", 13, SOFT)

    drawing.box(left, 660, 16, 16, READY)
    drawing.text(left + 24, 673, "ready", 13)
    drawing.box(left + 110, 660, 16, 16, TOUCHED)
    drawing.text(left + 134, 673, "looked at, for nothing", 13)
    drawing.box(left + 330, 660, 16, 16, PAPER)
    drawing.text(left + 354, 673, "not looked at", 13)
    drawing.save(path)


def exchange(drawing: Drawing, y_in: float, words_in: str, y_out: float, words_out: str) -> None:
    """The two arrows of one call."""
    drawing.arrow(380, y_in, 608, y_in)
    drawing.middle(494, y_in - 8, words_in)
    drawing.arrow(608, y_out, 380, y_out)
    drawing.middle(494, y_out - 8, words_out)


#: What is in the socket at each of eight moments, and at which of them a wait reports it.
TRIGGERS = (
    ("level-triggered", "one read per report", (0, 100, 60, 20, 0, 30, 0, 0), (1, 2, 3, 5)),
    ("edge-triggered", "one read per report: wrong", (0, 100, 60, 60, 60, 90, 50, 50), (1, 5)),
    ("edge-triggered", "reads until it would block", (0, 100, 0, 0, 0, 30, 0, 0), (1, 5)),
)


def draw_triggers(path: Path) -> None:
    """When a socket is reported: 100 bytes come, and later 30; a read takes 40."""
    drawing = Drawing(480, "When level-triggered and edge-triggered waits report a socket")
    left, unit = 270, 76
    drawing.bold(30, 34, "100 bytes come, and later 30; a read takes 40")
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
    for step, words in ((1, "100 come"), (5, "30 come")):
        x = left + unit * step
        drawing.middle(x, 66, words)
        drawing.line(x, 74, x, 400, LINE, 'stroke-dasharray="3 5"')
    drawing.parts.append(f'<circle cx="38" cy="452" r="7" fill="{READY}"/>')
    drawing.text(54, 457, "a wait reports the socket", 13)
    drawing.box(290, 444, 16, 16, TOUCHED)
    drawing.text(314, 457, "bytes that will be read", 13)
    drawing.box(530, 444, 16, 16, LEFT)
    drawing.text(554, 457, "bytes that nobody is told of any more", 13)
    drawing.save(path)


#: What is ready, and the number of its registration; of the second file an older one, so that its report is dropped.
JOURNEY = ((7, 41), (9, 12), (12, 43))
STALE = 9


def draw_journey(path: Path) -> None:
    """What becomes of three files in the ready list, until there is a list in Python."""
    drawing = Drawing(780, "From the kernel's ready list to the list of a Poller", NARROW)
    left, row = 20, 30
    found = [fd for fd, _ in JOURNEY if fd != STALE]

    drawing.bold(left, 34, "the kernel")
    drawing.text(left, 58, "the ready list: files that have something", 15, SOFT)
    for number, (fd, _) in enumerate(JOURNEY):
        cell(drawing, 258 + 56 * number, 72, 50, str(fd), READY, PAPER)

    drawing.arrow(340, 106, 340, 196)
    drawing.text(left, 140, "1. The system call writes", 15)
    drawing.text(left, 160, "a record for each.", 15)

    top = 232
    drawing.bold(left, top - 16, "the array, in Python's memory")
    for column, name in enumerate(("index", "fd", "events")):
        drawing.text(left + 4 + 60 * column, top + 10, name, 14, SOFT)
    drawing.text(262, top + 10, "events · fd · generation", 13, SOFT)
    for number, (fd, generation) in enumerate(JOURNEY):
        y = top + 20 + row * number
        cell(drawing, 258, y, 162, f"READ · {fd} · {generation}", LEFT if fd == STALE else TOUCHED)
        for column, name in enumerate(("", "", "") if number >= len(found) else names(found[number])):
            cell(drawing, left + 60 * column, y, 60, name, TOUCHED if name else PAPER)
    drawing.arrow(252, top + 35, 206, top + 35)
    drawing.arrow(252, top + 95, 206, top + 67)
    drawing.text(258, top + 130, "not 9's registration", 14, SOFT)
    drawing.text(258, top + 148, "any more: dropped", 14, SOFT)
    drawing.text(left, top + 176, "2. The core checks the generations, and", 15)
    drawing.text(left, top + 196, "spreads the records into columns.", 15)
    drawing.text(left, top + 226, "3. wait() returns 2; fds[:2] and events[:2] are", 15)
    drawing.text(left, top + 246, "views on two of the columns.", 15)

    drawing.arrow(50, top + 258, 50, top + 308)
    top = 568
    drawing.text(70, top - 46, "4. poll() looks the indices up.", 15)
    drawing.bold(left, top, "a table that is there already")
    for number, fd in enumerate(found):
        x = left + 204 * number
        drawing.text(x, top + 30, names(fd)[0], 14, SOFT)
        cell(drawing, x + 30, top + 14, 130, f"({fd}, READ)", READY, PAPER)
    drawing.text(left + 170, top + 30, "…", 15, SOFT)
    drawing.arrow(115, top + 52, 115, top + 106)
    drawing.arrow(319, top + 52, 319, top + 106)
    drawing.bold(left, top + 136, "your program")
    result = ", ".join(f"({fd}, READ)" for fd in found)
    drawing.box(left, top + 150, 400, 40, PAPER)
    drawing.text(NARROW / 2, top + 176, f"[{result}]", 17, style='text-anchor="middle"')
    drawing.save(path)


def names(fd: int) -> tuple[str, str, str]:
    """What stands in a row of the array for a file that can be read."""
    return str(fd * 4 + 1), str(fd), "READ"


def cell(drawing: Drawing, x: float, y: float, width: float, words: str, fill: str, color: str = INK) -> None:
    drawing.box(x, y, width, 30, fill)
    drawing.text(x + width / 2, y + 20, words, 15, color, 'text-anchor="middle"')


if __name__ == "__main__":
    here = Path(__file__).parent
    draw_calls(here / "calls.svg")
    draw_triggers(here / "triggers.svg")
    draw_journey(here / "journey.svg")
