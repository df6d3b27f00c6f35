"""One measurement in a process of its own: runs as a script, imports only what it measures.

The argument is JSON: group, ready, rounds, batch (seconds), floor (path of the compiled floor.c, or null). Prints
JSON: for each candidate the nanoseconds per call, round by round. The candidates take turns within each round, and
each round begins with another one, so that whatever else the machine does hits all of them alike.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import timeit
from collections.abc import Callable, Collection
from typing import Any

Candidate = Callable[[int], float]  # how often -> how many seconds that took


def statement(text: str, **names: Any) -> Candidate:
    """Time a statement, with its names as local variables."""
    setup = "; ".join(f"{name} = given[{name!r}]" for name in names)
    return timeit.Timer(text, setup or "pass", globals={"given": names}).timeit


def halved(candidate: Candidate) -> Candidate:
    return lambda times: candidate(times) / 2


def ready_sockets(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Pairs of sockets, with a byte to read at the first of each."""
    pairs = [socket.socketpair() for _ in range(count)]
    for _, theirs in pairs:
        theirs.send(b"x")
    return pairs


def check(found: Collection[int], fds: Collection[int]) -> None:
    if sorted(found) != sorted(fds):
        raise SystemExit(f"{len(found)} ready descriptors were reported instead of {len(fds)}, or not the right ones")


def poll_candidates(fds: list[int], floor: str | None) -> dict[str, Candidate]:
    import fastmux

    standard, poller = select.epoll(), fastmux.Poller()
    for fd in fds:
        standard.register(fd, select.EPOLLIN)
        poller.register(fd, fastmux.READ)
    check([fd for fd, _ in standard.poll(0)], fds)
    check([fd for fd, _ in poller.poll(0)], fds)
    check(poller.fds[: poller.wait(0)].tolist(), fds)
    candidates = {
        "standard": statement("poller.poll(0)", poller=standard),
        "poll": statement("poller.poll(0)", poller=poller),
        "wait": statement("poller.wait(0)", poller=poller),
    }
    if floor:
        candidates["c"] = floor_candidate(fds, floor)
    return candidates


def floor_candidate(fds: list[int], path: str) -> Candidate:
    import ctypes

    library = ctypes.CDLL(path)
    library.floor_run.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.floor_run.restype = ctypes.c_int64
    watching = library.floor_open((ctypes.c_int * len(fds))(*fds), len(fds))
    if watching < 0:
        raise SystemExit(f"floor_open: errno {-watching}")

    def run(times: int) -> float:
        ns: int = library.floor_run(watching, len(fds), times)
        if ns < 0:
            raise SystemExit("floor_run: not the expected number of events")
        return ns / 1e9

    return run


def select_candidates(fds: list[int], floor: str | None) -> dict[str, Candidate]:
    import selectors

    import fastmux

    standard, poller = selectors.EpollSelector(), fastmux.Poller()
    for fd in fds:
        standard.register(fd, selectors.EVENT_READ)
        poller.register(fd, fastmux.READ)
    check([key.fd for key, _ in standard.select(0)], fds)
    check([key.fd for key, _ in poller.select(0)], fds)
    return {
        "standard": statement("poller.select(0)", poller=standard),
        "select": statement("poller.select(0)", poller=poller),
    }


def life_candidates(fds: list[int], floor: str | None) -> dict[str, Candidate]:
    """Open and close; and with what a short life has in between."""
    import selectors

    import fastmux

    empty = "new().close()"
    used = "poller = new(); poller.register(fd, 1); poller.select(0); poller.close()"
    return {
        "standard empty": statement(empty, new=selectors.EpollSelector),
        "empty": statement(empty, new=fastmux.Poller),
        "standard used": statement(used, new=selectors.EpollSelector, fd=fds[0]),
        "used": statement(used, new=fastmux.Poller, fd=fds[0]),
    }


def change_candidates(fds: list[int], floor: str | None) -> dict[str, Candidate]:
    """What a server does when a client comes and goes, and when it must wait until it can send."""
    import selectors

    import fastmux

    candidates = {}
    for prefix, new, both in (
        ("standard ", selectors.EpollSelector, selectors.EVENT_READ | selectors.EVENT_WRITE),
        ("", fastmux.Poller, fastmux.READ | fastmux.WRITE),
    ):
        for suffix, select_too in (("", ""), (" and select", "poller.select(0); ")):
            come_and_go = f"poller.register(fd, 1); {select_too}poller.unregister(fd)"
            candidates[f"{prefix}register{suffix}"] = statement(come_and_go, poller=new(), fd=fds[0])
            poller = new()
            poller.register(fds[0], 1)
            # There and back, to end as it began: two calls, counted as two.
            switch = f"poller.modify(fd, both); {select_too}poller.modify(fd, 1); {select_too}"
            candidates[f"{prefix}modify{suffix}"] = halved(statement(switch, poller=poller, fd=fds[0], both=both))
    return candidates


GROUPS = {
    "poll": poll_candidates,
    "select": select_candidates,
    "life": life_candidates,
    "change": change_candidates,
}


def calls_per_batch(candidate: Candidate, batch: float) -> int:
    calls = 1
    # The least of three: a pause at this moment would make all batches so short that their beginnings dominate.
    while (took := min(candidate(calls) for _ in range(3))) < batch / 4:
        calls *= 2
    return max(1, round(calls * batch / took))


def main() -> None:
    task = json.loads(sys.argv[1])
    pairs = ready_sockets(task["ready"])
    candidates = GROUPS[task["group"]]([ours.fileno() for ours, _ in pairs], task["floor"])
    calls = {name: calls_per_batch(candidate, task["batch"]) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(task["rounds"]):
        for name in names:
            times[name].append(candidates[name](calls[name]) * 1e9 / calls[name])
        names.append(names.pop(0))
    print(json.dumps(times))


if __name__ == "__main__":
    main()
