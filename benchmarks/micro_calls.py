"""The calls that micro.py compares: fastmux.Poller, the standard library, and a loop in C. See measure.py."""

from __future__ import annotations

import select

from . import measure
from .measure import Candidate, Given, check, halved, statement


def poll_candidates(given: Given) -> dict[str, Candidate]:
    import fastmux

    standard, poller = select.epoll(), fastmux.Poller()
    for fd in given.ready:
        standard.register(fd, select.EPOLLIN)
        poller.register(fd, fastmux.READ)
    check([fd for fd, _ in standard.poll(0)], given.ready)
    check([fd for fd, _ in poller.poll(0)], given.ready)
    check(poller.fds[: poller.wait(0)].tolist(), given.ready)
    candidates = {
        "standard": statement("poller.poll(0)", poller=standard),
        "poll": statement("poller.poll(0)", poller=poller),
        "wait": statement("poller.wait(0)", poller=poller),
    }
    if given.floor:
        candidates["c"] = floor_candidate(given.ready, given.floor)
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


def select_candidates(given: Given) -> dict[str, Candidate]:
    import selectors

    import fastmux

    standard, poller = selectors.EpollSelector(), fastmux.Poller()
    for fd in given.ready:
        standard.register(fd, selectors.EVENT_READ)
        poller.register(fd, fastmux.READ)
    check([key.fd for key, _ in standard.select(0)], given.ready)
    check([key.fd for key, _ in poller.select(0)], given.ready)
    return {
        "standard": statement("poller.select(0)", poller=standard),
        "select": statement("poller.select(0)", poller=poller),
    }


def life_candidates(given: Given) -> dict[str, Candidate]:
    """Open and close; and with what a short life has in between."""
    import selectors

    import fastmux

    empty = "new().close()"
    used = "poller = new(); poller.register(fd, 1); poller.select(0); poller.close()"
    return {
        "standard empty": statement(empty, new=selectors.EpollSelector),
        "empty": statement(empty, new=fastmux.Poller),
        "standard used": statement(used, new=selectors.EpollSelector, fd=given.ready[0]),
        "used": statement(used, new=fastmux.Poller, fd=given.ready[0]),
    }


def change_candidates(given: Given) -> dict[str, Candidate]:
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
            candidates[f"{prefix}register{suffix}"] = statement(come_and_go, poller=new(), fd=given.ready[0])
            poller = new()
            poller.register(given.ready[0], 1)
            # There and back, to end as it began: two calls, counted as two.
            switch = f"poller.modify(fd, both); {select_too}poller.modify(fd, 1); {select_too}"
            candidates[f"{prefix}modify{suffix}"] = halved(
                statement(switch, poller=poller, fd=given.ready[0], both=both)
            )
    return candidates


GROUPS = {
    "poll": poll_candidates,
    "select": select_candidates,
    "life": life_candidates,
    "change": change_candidates,
}


if __name__ == "__main__":
    measure.main(GROUPS)
