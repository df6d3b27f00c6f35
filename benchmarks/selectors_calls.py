"""The calls of the chapter selectors. See measure.py."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

import fastmux

from . import measure
from .measure import Candidate, Given, both, check, halved, statement


def waits(given: Given) -> dict[str, Candidate]:
    """select(0) of everybody who returns keys, with all descriptors ready."""
    candidates = {}
    for name, new in NEW.items():
        selector = new()
        for sock in given.sockets:
            selector.register(sock, selectors.EVENT_READ)
        check([key.fd for key, _ in selector.select(0)], given.ready)
        candidates[name] = statement("selector.select(0)", selector=selector)
    return candidates


NEW: dict[str, Callable[[], Any]] = {
    "standard": selectors.EpollSelector,
    "fastmux": fastmux.selectors.EpollSelector,
    "Poller": fastmux.Poller,
}


def asking(new: str) -> Callable[[Any, Given], dict[str, Candidate]]:
    """select(0) and select(1.0), of the selector called new."""

    def make(library: Any, given: Given) -> dict[str, Candidate]:
        selector = getattr(library.selectors, new)()
        for sock in given.sockets:
            selector.register(sock, selectors.EVENT_READ)
        check([key.fd for key, _ in selector.select(0)], given.ready)
        return {
            "select(0)": statement("selector.select(0)", selector=selector),
            "select(1.0)": statement("selector.select(1.0)", selector=selector),
        }

    return make


def changes(make: Callable[[], Any], given: Given) -> dict[str, Candidate]:
    """Register and unregister, with and without a use of it; and the kinds of modify()."""
    sock = given.sockets[0]

    def change(text: str, *, registered: bool) -> Candidate:
        selector = make()
        if registered:
            selector.register(sock, 1, "a")
        return statement(text, selector=selector, sock=sock, a="a", b="b", both=both_events(selector))

    return {
        "register": change("selector.register(sock, 1, a); selector.unregister(sock)", registered=False),
        "register, use": change(
            "selector.register(sock, 1, a); selector.select(0); selector.unregister(sock)", registered=False
        ),
        # There and back, to end as it began: two calls, counted as two.
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


def both_events(selector: Any) -> int:
    if isinstance(selector, fastmux.Poller):
        return fastmux.READ | fastmux.WRITE
    return selectors.EVENT_READ | selectors.EVENT_WRITE


def epoll_changes(given: Given) -> dict[str, Candidate]:
    return {f"{name} {what}": made for name, new in NEW.items() for what, made in changes(new, given).items()}


def poll_changes(library: Any, given: Given) -> dict[str, Candidate]:
    return changes(library.selectors.PollSelector, given)


def life(given: Given) -> dict[str, Candidate]:
    """Open and close; and a selector for one question."""
    used = "selector = new(); selector.register(one, 1); selector.select(0); selector.close()"
    candidates = {}
    for name, new in NEW.items():
        candidates[f"{name} empty"] = statement("new().close()", new=new)
        candidates[f"{name} used"] = statement(used, new=new, one=given.sockets[0])
    return candidates


def short_poll(library: Any, given: Given) -> dict[str, Candidate]:
    """What Popen.communicate and multiprocessing.connection.wait do."""
    one, other = given.sockets[:2]
    text = "selector = new(); selector.register(one, 1); selector.register(other, 1); "
    text += "selector.select(0); selector.close()"
    return {"used": statement(text, new=library.selectors.PollSelector, one=one, other=other)}


def programs(library: Any, given: Given) -> dict[str, Candidate]:
    """What is built on selectors: under patch(), or with a selector of its own."""
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
        "multiprocessing": patched(statement("wait(sockets, 0)", wait=wait, sockets=given.sockets)),
        "asyncio": bytes_through_asyncio(library.selectors.DefaultSelector()),
    }


def bytes_through_asyncio(selector: Any) -> Candidate:
    """A byte written by one end of a connection and read by the other, both in one event loop."""
    import asyncio

    loop = asyncio.SelectorEventLoop(selector)
    ends = [loop.run_until_complete(asyncio.open_connection(sock=sock)) for sock in socket.socketpair()]

    async def write_and_read(times: int) -> float:
        (_, writer), (reader, _) = ends
        begin = time.thread_time()
        for _ in range(times):
            writer.write(b"x")
            await reader.readexactly(1)
        return time.thread_time() - begin

    return lambda times: loop.run_until_complete(write_and_read(times))


if __name__ == "__main__":
    measure.main({
        "EpollSelector": waits,
        **{name: both(asking(name)) for name in ("PollSelector", "SelectSelector")},
        "EpollSelector, timeout": both(asking("EpollSelector")),
        "EpollSelector changes": epoll_changes,
        "PollSelector changes": both(poll_changes),
        "life": life,
        "short PollSelector": both(short_poll),
        "programs": both(programs),
    })  # fmt: skip
