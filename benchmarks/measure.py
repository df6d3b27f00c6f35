"""Measurements in a process of their own: what the modules called *_calls.py share.

The argument is JSON: group, registered and ready (numbers of sockets), rounds, batch (seconds), floor (path of the
compiled floor.c, or null). The answer is a pyperf suite in JSON, with one benchmark for each candidate.

pyperf has the processes, the benchmarks and their metadata, and the file format: ``python -m pyperf`` shows the
results, checks how stable they are, and compares them. Its Runner is not used. That measures one benchmark to its end
before the next begins, and on a busy machine seconds lie between the two halves of a ratio. Here the candidates take
turns within each round, a few milliseconds each, and each round begins with another one, so that whatever else the
machine does hits all of them alike. The number of loops is calibrated, and a warm-up kept, as Runner does.

None of the calls waits, so what is taken is the CPU time of the thread: other programs do not count.
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
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pyperf

import fastmux

Candidate = Callable[[int], float]  # how often -> how many seconds that took


class Given(NamedTuple):
    """What a group of candidates is made from."""

    sockets: list[socket.socket]  # to register
    ready: list[int]  # the descriptors of those that can be read
    floor: str | None


Group = Callable[[Given], Mapping[str, Candidate]]

#: name -> what has the modules select and selectors as attributes
LIBRARIES = {"standard": types.SimpleNamespace(select=select, selectors=selectors), "fastmux": fastmux}


def both(make: Callable[[Any, Given], Mapping[str, Candidate]]) -> Group:
    """Make the candidates of both libraries, alternating: "standard ..." and "fastmux ..."."""

    def group(given: Given) -> dict[str, Candidate]:
        made = {name: make(library, given) for name, library in LIBRARIES.items()}
        return {f"{name} {what}": made[name][what] for what in made["standard"] for name in made}

    return group


def statement(text: str, timer: Callable[[], float] = time.thread_time, **names: Any) -> Candidate:
    """Time a statement, with its names as local variables."""
    setup = "; ".join(f"{name} = given[{name!r}]" for name in names)
    return timeit.Timer(text, setup or "pass", timer, {"given": names}).timeit


def halved(candidate: Candidate) -> Candidate:
    return lambda times: candidate(times) / 2


def check(found: Collection[int], fds: Collection[int]) -> None:
    if sorted(found) != sorted(fds):
        raise SystemExit(f"{len(found)} ready descriptors were reported instead of {len(fds)}, or not the right ones")


def calls_per_batch(candidate: Candidate, batch: float) -> int:
    calls = 1
    # The least of three: a pause at this moment would make all batches so short that their beginnings dominate.
    while (took := min(candidate(calls) for _ in range(3))) < batch / 4:
        calls *= 2
    return max(1, round(calls * batch / took))


def rounds(candidates: Mapping[str, Candidate], count: int, batch: float, prefix: str = "") -> list[pyperf.Benchmark]:
    """Measure all candidates in turns."""
    loops = {name: calls_per_batch(candidate, batch) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(count + 1):
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
    # Before anything else is opened: select.select takes descriptors below 1024 only.
    pairs = [socket.socketpair() for _ in range(registered)]
    first = (registered - ready) // 2
    for _, theirs in pairs[first : first + ready]:
        theirs.send(b"x")
    sockets = [ours for ours, _ in pairs]
    fds = [sock.fileno() for sock in sockets[first : first + ready]]
    candidates = groups[task["group"]](Given(sockets, fds, task["floor"]))
    pyperf.BenchmarkSuite(rounds(candidates, task["rounds"], task["batch"])).dump(sys.stdout)
