"""Time calls that return (descriptor, events), for the chapter poll."""

from __future__ import annotations

import ctypes
import importlib.util
import select
from typing import Any

import fastmux

from . import timing
from .timing import Candidate, Setup, both_libraries, check_ready, register, statement


def epoll(setup: Setup) -> dict[str, Candidate]:
    pollers: dict[str, Any] = {
        "standard": select.epoll(),
        "fastmux": fastmux.select.epoll(),
        "Poller": fastmux.Poller(),
    }
    if importlib.util.find_spec("zmq"):
        zmq: Any = __import__("zmq")
        pollers["zmq"] = zmq.Poller()
    fds = [sock.fileno() for sock in setup.sockets]  # pyzmq reports socket objects as such
    candidates = {}
    for name, poller in pollers.items():
        register(poller, fds, select.EPOLLIN)
        check_ready([fd for fd, _ in poller.poll(0)], setup.ready)
        candidates[f"{name} poll"] = statement("poller.poll(0)", poller=poller)
    poller = pollers["Poller"]
    check_ready(poller.fds[: poller.wait(0)].tolist(), setup.ready)
    candidates["Poller wait"] = statement("poller.wait(0)", poller=poller)
    if setup.epoll_loop:
        candidates["C"] = epoll_loop(setup, setup.epoll_loop)
    return candidates


def epoll_loop(setup: Setup, path: str) -> Candidate:
    """Load epoll_loop.c, compiled as the shared library path."""
    library = ctypes.CDLL(path)
    library.epoll_loop_run.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.epoll_loop_run.restype = ctypes.c_int64
    fds = [sock.fileno() for sock in setup.sockets]
    epfd = library.epoll_loop_open((ctypes.c_int * len(fds))(*fds), len(fds))
    if epfd < 0:
        raise SystemExit(f"epoll_loop_open: errno {-epfd}")

    def run(times: int) -> float:
        ns: int = library.epoll_loop_run(epfd, len(setup.ready), times)
        if ns < 0:
            raise SystemExit("epoll_loop_run: wrong number of events")
        return ns / 1e9

    return run


def arguments(library: Any, setup: Setup) -> dict[str, Candidate]:
    poller = register(library.select.epoll(), setup.sockets, select.EPOLLIN)
    maxevents = len(setup.ready)
    check_ready([fd for fd, _ in poller.poll(timeout=0)], setup.ready)
    check_ready([fd for fd, _ in poller.poll(0, maxevents)], setup.ready)
    return {
        "timeout=0": statement("poller.poll(timeout=0)", poller=poller),
        "maxevents": statement("poller.poll(0, maxevents)", poller=poller, maxevents=maxevents),
    }


def poll(library: Any, setup: Setup) -> dict[str, Candidate]:
    poller = register(library.select.poll(), setup.sockets, select.POLLIN)
    check_ready([fd for fd, _ in poller.poll(0)], setup.ready)
    return {"poll": statement("poller.poll(0)", poller=poller)}


def with_timeout(setup: Setup) -> dict[str, Candidate]:
    """Pass a timeout of one second while descriptors are ready."""
    pollers: dict[str, tuple[Any, float]] = {
        "standard epoll": (select.epoll(), 1.0),
        "fastmux epoll": (fastmux.select.epoll(), 1.0),
        "Poller": (fastmux.Poller(), 1.0),
        "standard poll": (select.poll(), 1000),
        "fastmux poll": (fastmux.select.poll(), 1000),
    }
    candidates = {}
    for name, (poller, second) in pollers.items():
        register(poller, setup.sockets, select.POLLIN)
        check_ready([fd for fd, _ in poller.poll(second)], setup.ready)
        candidates[name] = statement("poller.poll(second)", poller=poller, second=second)
    return candidates


if __name__ == "__main__":
    timing.main({
        "epoll": epoll,
        "epoll arguments": both_libraries(arguments),
        "poll": both_libraries(poll),
        "with timeout": with_timeout,
    })  # fmt: skip
