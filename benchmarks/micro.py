"""The cost of one call: asking what is ready, without waiting, and what else a server does all the time."""

from __future__ import annotations

from pathlib import Path

from . import process
from .calls import FULL, QUICK, Measurements, Settings, Times
from .results import Progress, Results, Row, ratios

__all__ = ["FLOOR", "FULL", "QUICK", "run", "steps"]

HERE = Path(__file__).parent
SIZES = (0, 1, 10, 100, 1000)
FLOOR = "The same loop in C"
#: section -> (group of micro_calls.py, candidate, counterpart, subject)
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


def steps(settings: Settings) -> int:
    return settings.processes * (2 * len(SIZES) + 2)


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    floor: Path | None = workspace / "floor.so"
    reason = process.build(HERE / "floor.c", workspace / "floor.so", "-shared", "-fPIC")
    if reason:
        floor = None
        results.note(f"The same loop in C is left out: {reason}.")
    measurements = Measurements("micro", "micro_calls", settings, results, progress, floor)
    waits: dict[tuple[str, int], Times] = {}
    for ready in SIZES:
        for group in ("poll", "select"):
            waits[group, ready] = measurements.measure(group, ready, ready)
    for section, (group, candidate, counterpart, subject) in WAYS.items():
        for ready in SIZES:
            times = waits[group, ready]
            if candidate in times:
                row = Row.of_calls(
                    "micro", section, counterpart, subject, f"{ready} ready", times["standard"], times[candidate]
                )
                if "c" in times and candidate != "c":
                    row.of_c = ratios(times[candidate], times["c"])[0]
                results.rows.append(row)
    groups = {group: measurements.measure(group, 1, 1) for group in ("life", "change")}
    for name, (group, candidate) in REST.items():
        times = groups[group]
        both = times[f"standard {candidate}"], times[candidate]
        results.rows.append(Row.of_calls("micro", "Registrations", "EpollSelector", "Poller", name, *both))
