"""Time groups of calls in a fresh process; shared by the modules of this folder.

The argument is JSON: group, registered and ready (numbers of sockets), rounds, batch (seconds), epoll_loop (path of
the compiled epoll_loop.c, or null). The output is a pyperf suite in JSON, with one benchmark per candidate.

pyperf provides the benchmarks, their metadata and the file format: ``python -m pyperf`` shows the results, checks
their stability and compares them. Its Runner is not used: it finishes one benchmark before it starts the next, so on a
busy machine seconds lie between the two sides of a ratio. Here the candidates alternate within each round, a few
milliseconds each, and each round starts with another candidate, so that noise hits all of them alike. As in Runner,
the number of loops is calibrated and a warm-up is stored.

No call blocks, so the timer is the CPU time of the thread: other programs do not count.
"""

from __future__ import annotations

import json
import select
import selectors
import socket
import sys
import time
import timeit
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import pyperf

import fastmux

Candidate = Callable[[int], float]  # number of calls -> seconds
#: Prefix of an output line that announces the next step, for the progress bar.
PROGRESS = "next: "


class Setup(NamedTuple):
    """Sockets and settings of a group."""

    sockets: list[socket.socket]  # to register
    ready: list[int]  # descriptors of the readable ones
    epoll_loop: str | None


Group = Callable[[Setup], Mapping[str, Candidate]]

#: name -> an object with the attributes select and selectors
LIBRARIES = {"standard": types.SimpleNamespace(select=select, selectors=selectors), "fastmux": fastmux}


def both_libraries(make: Callable[[Any, Setup], Mapping[str, Candidate]]) -> Group:
    """Make the candidates of both libraries, alternating: "standard ..." and "fastmux ..."."""

    def group(setup: Setup) -> dict[str, Candidate]:
        made = {name: make(library, setup) for name, library in LIBRARIES.items()}
        return {f"{name} {call}": made[name][call] for call in made["standard"] for name in made}

    return group


def statement(text: str, timer: Callable[[], float] = time.thread_time, **names: Any) -> Candidate:
    """Time a statement that uses names as local variables."""
    setup = "; ".join(f"{name} = given[{name!r}]" for name in names)
    return timeit.Timer(text, setup or "pass", timer, {"given": names}).timeit


def halved(candidate: Candidate) -> Candidate:
    return lambda times: candidate(times) / 2


def register(poller: Any, files: Iterable[Any], events: int) -> Any:
    """Register files with a poller or selector and return it."""
    for file in files:
        poller.register(file, events)
    return poller


def check_ready(found: Collection[int], expected: Collection[int]) -> None:
    if sorted(found) != sorted(expected):
        raise SystemExit(f"wrong result: {len(found)} ready descriptors, expected {len(expected)}")


def calibrate(candidate: Candidate, batch: float) -> int:
    """Return the number of calls that take about batch seconds."""
    calls = 1
    # The minimum of three: a pause here would make all batches so short that the timer dominates.
    while (seconds := min(candidate(calls) for _ in range(3))) < batch / 4:
        calls *= 2
    return max(1, round(calls * batch / seconds))


def interleave(
    candidates: Mapping[str, Candidate], rounds: int, batch: float, prefix: str = ""
) -> list[pyperf.Benchmark]:
    """Measure all candidates in alternation."""
    loops = {name: calibrate(candidate, batch) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(rounds + 1):
        for name in names:
            times[name].append(candidates[name](loops[name]) / loops[name])
        names.append(names.pop(0))
    benchmarks = []
    for name, (warmup, *values) in times.items():
        metadata = {"name": prefix + name, "loops": loops[name], "timer": "CPU time of the thread"}
        benchmarks.append(pyperf.Benchmark([pyperf.Run(values, [(loops[name], warmup)], metadata)]))
    return benchmarks


def main(groups: Mapping[str, Group]) -> None:
    task = json.loads(sys.argv[1])
    registered, ready = task["registered"], task["ready"]
    # Open the sockets first: select.select takes only descriptors below 1024.
    pairs = [socket.socketpair() for _ in range(registered)]
    first = (registered - ready) // 2
    for _, theirs in pairs[first : first + ready]:
        theirs.send(b"x")
    sockets = [ours for ours, _ in pairs]
    fds = [sock.fileno() for sock in sockets[first : first + ready]]
    candidates = groups[task["group"]](Setup(sockets, fds, task["epoll_loop"]))
    pyperf.BenchmarkSuite(interleave(candidates, task["rounds"], task["batch"])).dump(sys.stdout)
