"""Chapter selectors: calls that return (key, events), registrations, and the cost of the import."""

from __future__ import annotations

import resource
import sys

from benchmarks import child_process
from benchmarks.results import Results, Row, as_benchmark, quartiles

from .call_chapter import (
    MIRROR,
    ONE_OF,
    READY,
    SIZES,
    WITH_TIMEOUT,
    CallChapter,
    Comparison,
    Settings,
    against_standard,
)

REGISTRATIONS = {
    "register, unregister": "register",
    "register, use, unregister": "register, use",
    "modify: other events": "events",
    "modify: other events, use": "events, use",
    "modify: other data": "data",
    "modify: no change": "nothing",
}
USERS = "Users of selectors"
SHORT_LIVED = "Short-lived selectors"

COMPARISONS = [
    Comparison(
        "Poller.select(0) against EpollSelector",
        ("Poller", "EpollSelector"),
        "EpollSelector",
        {READY: ("Poller", "standard")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "fastmux.selectors.EpollSelector, select(0)",
        MIRROR,
        "EpollSelector",
        {READY: ("fastmux", "standard")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "fastmux.selectors.PollSelector, select(0)",
        MIRROR,
        "PollSelector",
        against_standard("fastmux", {ONE_OF: "select(0)"}),
        (10, 100, 1000),
    ),
    Comparison(
        "fastmux.selectors.SelectSelector, select(0)",
        MIRROR,
        "SelectSelector",
        against_standard("fastmux", {ONE_OF: "select(0)"}),
        (10, 100, 400),
    ),
    Comparison(
        WITH_TIMEOUT,
        MIRROR,
        "EpollSelector, timeout",
        against_standard("fastmux", {"EpollSelector.select(1.0)": "select(1.0)"}),
        (10,),
    ),
    Comparison(
        "Poller, registrations",
        ("Poller", "EpollSelector"),
        "EpollSelector registrations",
        against_standard("Poller", REGISTRATIONS),
        (1,),
    ),
    Comparison(
        "EpollSelector, registrations",
        MIRROR,
        "EpollSelector registrations",
        against_standard("fastmux", REGISTRATIONS),
        (1,),
    ),
    Comparison(
        "PollSelector, registrations",
        MIRROR,
        "PollSelector registrations",
        against_standard("fastmux", REGISTRATIONS),
        (1,),
    ),
    Comparison(
        SHORT_LIVED,
        MIRROR,
        "short-lived EpollSelector",
        {
            **against_standard("Poller", {"Poller, unused": "empty", "Poller, used once": "used"}),
            **against_standard("fastmux", {"EpollSelector, unused": "empty", "EpollSelector, used once": "used"}),
        },
        (2,),
    ),
    Comparison(
        SHORT_LIVED,
        MIRROR,
        "short-lived PollSelector",
        against_standard("fastmux", {"PollSelector, used once": "used"}),
        (2,),
    ),
    Comparison(
        USERS,
        MIRROR,
        "standard library",
        against_standard(
            "fastmux",
            {
                "subprocess.run": "subprocess",
                "multiprocessing wait": "multiprocessing",
                "asyncio, one byte": "asyncio",
            },
        ),
        (2,),
    ),
]


def children_cpu_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_import(settings: Settings, results: Results) -> None:
    """Measure the import: the CPU time of a fresh interpreter that does nothing else."""
    times: dict[str, list[float]] = {"selectors": [], "fastmux": []}
    names = list(times)
    for number in range(-1, settings.starts):
        for name in names:
            before = children_cpu_time()
            child_process.run([sys.executable, "-c", f"import {name}"])
            if number >= 0:  # the first start is a warm-up: it reads the files from disk and may write bytecode
                times[name].append(children_cpu_time() - before)
        names.reverse()
    name = "python -c 'import ...'"
    ours, theirs = as_benchmark(name, times["fastmux"]), as_benchmark(name, times["selectors"])
    results.rows.append(Row("selectors", USERS, *MIRROR, name, ours, theirs))
    extra = quartiles([ours - theirs for theirs, ours in zip(*times.values())])
    results.note(
        f"import fastmux takes {extra.median * 1e3:.1f} ms longer than import selectors (quartiles: "
        f"{extra.low * 1e3:.1f} to {extra.high * 1e3:.1f} ms, {settings.starts} pairs of fresh interpreters)."
    )


CHAPTER = CallChapter("selectors", COMPARISONS, measure_import)
