"""The calls of the chapter poll: what is ready now, as (descriptor, events). See measure.py."""

from __future__ import annotations

import importlib.util
import select
from typing import Any

import fastmux

from . import measure
from .measure import Candidate, Given, both, check, statement


def epoll(given: Given) -> dict[str, Candidate]:
    """Everybody who can be asked."""
    pollers: dict[str, Any] = {
        "standard": select.epoll(),
        "fastmux": fastmux.select.epoll(),
        "Poller": fastmux.Poller(),
    }
    if importlib.util.find_spec("zmq"):
        zmq: Any = __import__("zmq")
        pollers["zmq"] = zmq.Poller()
    candidates = {}
    for name, poller in pollers.items():
        for sock in given.sockets:
            poller.register(sock.fileno(), select.EPOLLIN)  # pyzmq would report sockets as they were given
        check([fd for fd, _ in poller.poll(0)], given.ready)
        candidates[f"{name} poll"] = statement("poller.poll(0)", poller=poller)
    poller = pollers["Poller"]
    check(poller.fds[: poller.wait(0)].tolist(), given.ready)
    candidates["Poller wait"] = statement("poller.wait(0)", poller=poller)
    if given.floor:
        candidates["C"] = loop_in_c(given, given.floor)
    return candidates


def loop_in_c(given: Given, path: str) -> Candidate:
    import ctypes

    library = ctypes.CDLL(path)
    library.floor_run.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.floor_run.restype = ctypes.c_int64
    fds = [sock.fileno() for sock in given.sockets]
    watching = library.floor_open((ctypes.c_int * len(fds))(*fds), len(fds))
    if watching < 0:
        raise SystemExit(f"floor_open: errno {-watching}")

    def run(times: int) -> float:
        ns: int = library.floor_run(watching, len(given.ready), times)
        if ns < 0:
            raise SystemExit("floor_run: not the expected number of events")
        return ns / 1e9

    return run


def arguments(library: Any, given: Given) -> dict[str, Candidate]:
    poller = library.select.epoll()
    for sock in given.sockets:
        poller.register(sock, select.EPOLLIN)
    most = len(given.ready)
    check([fd for fd, _ in poller.poll(timeout=0)], given.ready)
    check([fd for fd, _ in poller.poll(0, most)], given.ready)
    return {
        "timeout=0": statement("poller.poll(timeout=0)", poller=poller),
        "maxevents": statement("poller.poll(0, most)", poller=poller, most=most),
    }


def poll(library: Any, given: Given) -> dict[str, Candidate]:
    poller = library.select.poll()
    for sock in given.sockets:
        poller.register(sock, select.POLLIN)
    check([fd for fd, _ in poller.poll(0)], given.ready)
    return {"poll": statement("poller.poll(0)", poller=poller)}


def timed(given: Given) -> dict[str, Candidate]:
    """Calls that would wait for a second if nothing were ready."""
    pollers: dict[str, tuple[Any, float]] = {
        "standard epoll": (select.epoll(), 1.0),
        "fastmux epoll": (fastmux.select.epoll(), 1.0),
        "Poller": (fastmux.Poller(), 1.0),
        "standard poll": (select.poll(), 1000),
        "fastmux poll": (fastmux.select.poll(), 1000),
    }
    candidates = {}
    for name, (poller, second) in pollers.items():
        for sock in given.sockets:
            poller.register(sock, select.POLLIN)
        check([fd for fd, _ in poller.poll(second)], given.ready)
        candidates[name] = statement("poller.poll(second)", poller=poller, second=second)
    return candidates


if __name__ == "__main__":
    measure.main({"epoll": epoll, "epoll arguments": both(arguments), "poll": both(poll), "timed": timed})
