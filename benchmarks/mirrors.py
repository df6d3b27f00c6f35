"""Drop-in replacements: fastmux.select and fastmux.selectors against the modules whose names they have."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import calls, process
from .results import Progress, Results, Row, ratios

MIRROR = "mirror"
SELECTORS = ("selectors", MIRROR)
SELECT = ("select", MIRROR)
SIZES = (0, 1, 10, 100, 1000)
CHANGES = {
    "register": "register, unregister",
    "register and select": "register, use, unregister",
    "events": "modify: other events",
    "data": "modify: other data",
    "nothing": "modify: nothing new",
}
TIMED = {
    "selector": "EpollSelector, 1 ready of {}",
    "epoll": "epoll, 1 ready of {}",
    "poll": "poll, 1 ready of {}",
    "select": "select, 1 ready of {}",
}
PROGRAMS = {
    "subprocess": "subprocess.run",
    "multiprocessing": "multiprocessing's wait",
    "asyncio": "asyncio, one byte",
}
#: The last row of this section is no call: see start().
BUILT_ON_IT = "Built on it"


class Part(NamedTuple):
    """What is measured for a section. Two with the same section are one in the table."""

    section: str
    #: Counterpart and subject.
    compared: tuple[str, str]
    #: Of mirror_calls.py.
    group: str
    #: candidate -> name of its rows, where {} is the number of registered sockets
    rows: dict[str, str]
    registered: tuple[int, ...]
    all_ready: bool = False  # else the one in the middle


PARTS = [
    Part("EpollSelector.select(0)", SELECTORS, "EpollSelector", {"select": "{} ready"}, SIZES, all_ready=True),
    Part("EpollSelector, registrations", SELECTORS, "EpollSelector changes", CHANGES, (1,)),
    Part("PollSelector.select(0)", SELECTORS, "PollSelector", {"select": "1 ready of {}"}, (10, 100, 1000)),
    Part("PollSelector, registrations", SELECTORS, "PollSelector changes", CHANGES, (1,)),
    Part("SelectSelector.select(0)", SELECTORS, "SelectSelector", {"select": "1 ready of {}"}, (10, 100, 400)),
    Part("epoll.poll(0)", SELECT, "epoll", {"poll": "{} ready"}, SIZES, all_ready=True),
    Part(
        "epoll.poll(0)",
        SELECT,
        "epoll arguments",
        {"keyword": "{} ready, timeout=0", "maxevents": "{} ready, maxevents={}"},
        (10,),
        all_ready=True,
    ),
    Part("poll.poll(0)", SELECT, "poll", {"poll": "1 ready of {}"}, (10, 100, 1000)),
    Part(
        "select.select, not waiting",
        SELECT,
        "select",
        {"sockets": "1 ready of {} sockets", "ints": "1 ready of {} ints"},
        (10, 100, 500),
    ),
    Part("Ready at once, but with a timeout", SELECTORS, "timed", TIMED, (10,)),
    Part(
        "select.select, above 1024",
        ("poll.poll(0)", "select.select"),
        "beyond 1024",
        {"sockets": "1 ready of {}"},
        (5000,),
    ),
    Part(
        "Open, use, close",
        SELECTORS,
        "life",
        {"epoll": "EpollSelector, 1 socket", "poll": "PollSelector, {} sockets"},
        (2,),
    ),
    Part(BUILT_ON_IT, SELECTORS, "programs", PROGRAMS, (2,)),
]


@dataclass
class Settings(calls.Settings):
    starts: int  # of an interpreter, for each side


QUICK = Settings(**vars(calls.QUICK) | {"rounds": 20}, starts=15)
FULL = Settings(**vars(calls.FULL), starts=50)


def steps(settings: Settings) -> int:
    return settings.processes * sum(len(part.registered) for part in PARTS) + 1


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    measurements = calls.Measurements("mirrors", "mirror_calls", settings, results, progress)
    for part in PARTS:
        times = {
            size: measurements.measure(part.group, size, size if part.all_ready else 1) for size in part.registered
        }
        for candidate, name in part.rows.items():
            for size, found in times.items():
                label = name.replace("{}", str(size))
                if f"fastmux {candidate}" in found:
                    both = found[f"standard {candidate}"], found[f"fastmux {candidate}"]
                    results.rows.append(Row.of_calls("mirrors", part.section, *part.compared, label, *both))
                elif found:
                    results.note(f"{part.section}, {label}, is left out: the mirror refuses it.")
    progress("starting interpreters")
    start(settings, results)


def start(settings: Settings, results: Results) -> None:
    """What the import costs: the time of a fresh interpreter that does nothing else."""
    times: dict[str, list[float]] = {"selectors": [], "fastmux": []}
    names = list(times)
    for number in range(-1, settings.starts):
        for name in names:
            begin = time.perf_counter()
            process.run([sys.executable, "-c", f"import {name}"])
            if number >= 0:  # the one before reads the files from the disk, and may write their bytecode
                times[name].append((time.perf_counter() - begin) * 1e3)
        names.reverse()
    results.raw.setdefault("mirrors", {})["start"] = times
    both = times["selectors"], times["fastmux"]
    middle = statistics.median(both[0]), statistics.median(both[1])
    name = "python -c 'import ...'"
    results.rows.append(Row("mirrors", BUILT_ON_IT, *SELECTORS, name, "ms", *middle, *ratios(*both)))
    more = [ours - theirs for theirs, ours in zip(*both)]
    low, median, high = statistics.quantiles(more, method="inclusive")
    results.note(
        f"A program starts {median:.1f} ms later with import fastmux than with import selectors "
        f"(middle half: {low:.1f} to {high:.1f}, {len(more)} pairs of fresh interpreters)."
    )
