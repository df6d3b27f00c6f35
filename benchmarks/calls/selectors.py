"""Time calls that return (key, events), and registrations, for the chapter selectors."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

import fastmux

from . import timing
from .timing import Candidate, Setup, both_libraries, check_ready, halved, register, statement

EPOLL_SELECTORS: dict[str, Callable[[], Any]] = {
    "standard": selectors.EpollSelector,
    "fastmux": fastmux.selectors.EpollSelector,
    "Poller": fastmux.Poller,
}


def epoll_select(setup: Setup) -> dict[str, Candidate]:
    """Call select(0) with all descriptors ready."""
    candidates = {}
    for name, new in EPOLL_SELECTORS.items():
        selector = register(new(), setup.sockets, selectors.EVENT_READ)
        check_ready([key.fd for key, _ in selector.select(0)], setup.ready)
        candidates[name] = statement("selector.select(0)", selector=selector)
    return candidates


def select_calls(name: str) -> Callable[[Any, Setup], dict[str, Candidate]]:
    """Call select(0) and select(1.0) of the selector class name."""

    def make(library: Any, setup: Setup) -> dict[str, Candidate]:
        selector = register(getattr(library.selectors, name)(), setup.sockets, selectors.EVENT_READ)
        check_ready([key.fd for key, _ in selector.select(0)], setup.ready)
        return {
            "select(0)": statement("selector.select(0)", selector=selector),
            "select(1.0)": statement("selector.select(1.0)", selector=selector),
        }

    return make


def registrations(new: Callable[[], Any], setup: Setup) -> dict[str, Candidate]:
    """Register and unregister, and modify, each with and without a select()."""
    sock = setup.sockets[0]

    def change(text: str, *, registered: bool) -> Candidate:
        selector = new()
        if registered:
            selector.register(sock, 1, "a")
        return statement(text, selector=selector, sock=sock, a="a", b="b", both=read_and_write(selector))

    return {
        "register": change("selector.register(sock, 1, a); selector.unregister(sock)", registered=False),
        "register, use": change(
            "selector.register(sock, 1, a); selector.select(0); selector.unregister(sock)", registered=False
        ),
        # Two calls, to restore the initial state; counted as two.
        "events": halved(change("selector.modify(sock, both, a); selector.modify(sock, 1, a)", registered=True)),
        "events, use": halved(
            change(
                "selector.modify(sock, both, a); selector.select(0); selector.modify(sock, 1, a); selector.select(0)",
                registered=True,
            )
        ),
        "data": halved(change("selector.modify(sock, 1, b); selector.modify(sock, 1, a)", registered=True)),
        "nothing": change("selector.modify(sock, 1, a)", registered=True),
    }


def read_and_write(selector: Any) -> int:
    if isinstance(selector, fastmux.Poller):
        return fastmux.READ | fastmux.WRITE
    return selectors.EVENT_READ | selectors.EVENT_WRITE


def epoll_registrations(setup: Setup) -> dict[str, Candidate]:
    return {
        f"{name} {call}": candidate
        for name, new in EPOLL_SELECTORS.items()
        for call, candidate in registrations(new, setup).items()
    }


def poll_registrations(library: Any, setup: Setup) -> dict[str, Candidate]:
    return registrations(library.selectors.PollSelector, setup)


def short_lived_epoll(setup: Setup) -> dict[str, Candidate]:
    """Open and close a selector, without and with one select()."""
    used = "selector = new(); selector.register(sock, 1); selector.select(0); selector.close()"
    candidates = {}
    for name, new in EPOLL_SELECTORS.items():
        candidates[f"{name} empty"] = statement("new().close()", new=new)
        candidates[f"{name} used"] = statement(used, new=new, sock=setup.sockets[0])
    return candidates


def short_lived_poll(library: Any, setup: Setup) -> dict[str, Candidate]:
    """Use a PollSelector like Popen.communicate and multiprocessing.connection.wait."""
    first, second = setup.sockets[:2]
    text = "selector = new(); selector.register(first, 1); selector.register(second, 1); "
    text += "selector.select(0); selector.close()"
    return {"used": statement(text, new=library.selectors.PollSelector, first=first, second=second)}


def standard_library(library: Any, setup: Setup) -> dict[str, Candidate]:
    """Time users of selectors in the standard library: under patch(), or with a given selector."""
    import subprocess
    from multiprocessing.connection import wait

    def patched(candidate: Candidate) -> Candidate:
        def run(times: int) -> float:
            with fastmux.patch():
                return candidate(times)

        return candidate if library is not fastmux else run

    command = "run(['true'], capture_output=True)"
    return {
        "subprocess": patched(statement(command, time.perf_counter, run=subprocess.run)),
        "multiprocessing": patched(statement("wait(sockets, 0)", wait=wait, sockets=setup.sockets)),
        "asyncio": asyncio_bytes(library.selectors.DefaultSelector()),
    }


def asyncio_bytes(selector: Any) -> Candidate:
    """Send single bytes through a connection whose two ends share one event loop."""
    import asyncio

    loop = asyncio.SelectorEventLoop(selector)
    ends = [loop.run_until_complete(asyncio.open_connection(sock=sock)) for sock in socket.socketpair()]

    async def write_and_read(times: int) -> float:
        (_, writer), (reader, _) = ends
        start = time.thread_time()
        for _ in range(times):
            writer.write(b"x")
            await reader.readexactly(1)
        return time.thread_time() - start

    return lambda times: loop.run_until_complete(write_and_read(times))


if __name__ == "__main__":
    timing.main({
        "EpollSelector": epoll_select,
        "EpollSelector, timeout": both_libraries(select_calls("EpollSelector")),
        **{name: both_libraries(select_calls(name)) for name in ("PollSelector", "SelectSelector")},
        "EpollSelector registrations": epoll_registrations,
        "PollSelector registrations": both_libraries(poll_registrations),
        "short-lived EpollSelector": short_lived_epoll,
        "short-lived PollSelector": both_libraries(short_lived_poll),
        "standard library": both_libraries(standard_library),
    })  # fmt: skip
