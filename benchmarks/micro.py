"""The cost of one call: asking what is ready, without waiting, and what else a server does all the time.

Each measurement runs in fresh processes (measure.py), because what is imported and what lies on the heap changes the
figures; more than one, because each process has its own luck with the layout of its memory.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from . import machine, process
from .results import Progress, Results, Row, ratios

HERE = Path(__file__).parent
SIZES = (0, 1, 10, 100, 1000)
FLOOR = "The same loop in C"
#: section -> (group of measure.py, candidate, counterpart, subject)
WAYS = {
    "Ask what is ready": ("poll", "poll", "epoll.poll(0)", "poll(0)"),
    "The same, without tuples": ("poll", "wait", "epoll.poll(0)", "wait(0)"),
    "The same, with keys": ("select", "select", "EpollSelector", "select(0)"),
    FLOOR: ("poll", "c", "epoll.poll(0)", "(C)"),
}
#: name -> (group, candidate), where the counterpart is EpollSelector
REST = {
    "open, close": ("life", "empty"),
    "open, use, close": ("life", "used"),
    "register, unregister": ("change", "register"),
    "register, use, unregister": ("change", "register and select"),
    "modify": ("change", "modify"),
    "modify, use": ("change", "modify and select"),
}


@dataclass
class Settings:
    processes: int  # per measurement
    rounds: int  # per process
    batch: float  # seconds per candidate and round


QUICK = Settings(processes=2, rounds=30, batch=0.003)
FULL = Settings(processes=6, rounds=60, batch=0.004)


def steps(settings: Settings) -> int:
    return settings.processes * (2 * len(SIZES) + 2)


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    floor: Path | None = workspace / "floor.so"
    reason = process.build(HERE / "floor.c", workspace / "floor.so", "-shared", "-fPIC")
    if reason:
        floor = None
        results.notes.append(f"The same loop in C is left out: {reason}.")
    raw = results.raw["micro"] = {}

    def measure(group: str, ready: int) -> dict[str, list[float]]:
        task = {"group": group, "ready": ready, "rounds": settings.rounds, "batch": settings.batch}
        command = [sys.executable, str(HERE / "measure.py"), json.dumps(task | {"floor": floor and str(floor)})]
        times: dict[str, list[float]] = {}
        for _ in range(settings.processes):
            progress(f"{group}, {ready} ready")
            for name, found in json.loads(process.run(command)).items():
                times.setdefault(name, []).extend(found)
        raw[f"{group} {ready}"] = times
        return times

    waits: dict[tuple[str, int], dict[str, list[float]]] = {}
    for ready in SIZES:
        if (needed := 2 * ready + 64) > machine.descriptor_limit():
            results.notes.append(
                f"{ready} ready descriptors are left out: that needs {needed} open files, and the hard limit "
                f"(ulimit -Hn) is {machine.descriptor_limit()}."
            )
            for _ in range(2 * settings.processes):
                progress(f"{ready} ready: left out")
            continue
        for group in ("poll", "select"):
            waits[group, ready] = measure(group, ready)
    for section, (group, candidate, counterpart, subject) in WAYS.items():
        for ready in SIZES:
            times = waits.get((group, ready), {})
            if candidate in times:
                ratio = ratios(times["standard"], times[candidate])
                of_c = ratios(times[candidate], times["c"])[0] if "c" in times and candidate != "c" else None
                least = min(times["standard"]), min(times[candidate])
                results.rows.append(Row(section, counterpart, subject, f"{ready} ready", "ns", *least, *ratio, of_c))
    groups = {"life": measure("life", 1), "change": measure("change", 1)}
    for name, (group, candidate) in REST.items():
        standard, ours = groups[group][f"standard {candidate}"], groups[group][candidate]
        numbers = min(standard), min(ours), *ratios(standard, ours)
        results.rows.append(Row("Registrations", "EpollSelector", "Poller", name, "ns", *numbers))
