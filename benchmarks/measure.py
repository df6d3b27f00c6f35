"""Measurements in a process of their own: what micro_calls.py and mirror_calls.py share.

Those run as scripts, and import only what they measure. Their argument is JSON: group, registered and ready (numbers of
sockets), rounds, batch (seconds), floor (path of the compiled floor.c, or null). They print JSON: for each candidate
the nanoseconds per call, round by round. The candidates take turns within each round, and each round begins with
another one, so that whatever else the machine does hits all of them alike.
"""

from __future__ import annotations

import json
import socket
import sys
import timeit
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

Candidate = Callable[[int], float]  # how often -> how many seconds that took


class Given(NamedTuple):
    """What a group of candidates is made from."""

    sockets: list[socket.socket]  # to register
    ready: list[int]  # the descriptors of those that can be read
    floor: str | None


Group = Callable[[Given], Mapping[str, Candidate]]


def statement(text: str, **names: Any) -> Candidate:
    """Time a statement, with its names as local variables."""
    setup = "; ".join(f"{name} = given[{name!r}]" for name in names)
    return timeit.Timer(text, setup or "pass", globals={"given": names}).timeit


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


def rounds(candidates: Mapping[str, Candidate], count: int, batch: float) -> dict[str, list[float]]:
    """Measure all candidates in turns; return the nanoseconds per call of each, round by round."""
    calls = {name: calls_per_batch(candidate, batch) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(count):
        for name in names:
            times[name].append(candidates[name](calls[name]) * 1e9 / calls[name])
        names.append(names.pop(0))
    return times


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
    print(json.dumps(rounds(candidates, task["rounds"], task["batch"])))
