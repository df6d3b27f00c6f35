"""The calls that mirrors.py compares: the same one on the standard library and on its mirror. See measure.py.

What a function here returns for one library is measured for both, as "standard ..." and "fastmux ...".
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import types
from collections.abc import Callable, Mapping
from typing import Any

import fastmux

from . import measure
from .measure import Candidate, Given, Group, check, halved, statement

#: name -> what has the modules select and selectors as attributes
LIBRARIES = {"standard": types.SimpleNamespace(select=select, selectors=selectors), "fastmux": fastmux}


def both(make: Callable[[Any, Given], Mapping[str, Candidate]]) -> Group:
    """Make the candidates of both libraries, alternating."""

    def group(given: Given) -> dict[str, Candidate]:
        made = {name: make(library, given) for name, library in LIBRARIES.items()}
        return {f"{name} {what}": made[name][what] for what in made["standard"] for name in made}

    return group


def asking(new: str) -> Callable[[Any, Given], dict[str, Candidate]]:
    """select(0), of the selector called new."""

    def make(library: Any, given: Given) -> dict[str, Candidate]:
        selector = getattr(library.selectors, new)()
        for sock in given.sockets:
            selector.register(sock, selectors.EVENT_READ)
        check([key.fd for key, _ in selector.select(0)], given.ready)
        return {"select": statement("selector.select(0)", selector=selector)}

    return make


def timed(library: Any, given: Given) -> dict[str, Candidate]:
    """Calls that would wait for a second if nothing were ready."""
    selector, epoll, poll = library.selectors.EpollSelector(), library.select.epoll(), library.select.poll()
    for sock in given.sockets:
        selector.register(sock, selectors.EVENT_READ)
        epoll.register(sock, select.EPOLLIN)
        poll.register(sock, select.POLLIN)
    check([key.fd for key, _ in selector.select(1.0)], given.ready)
    return {
        "selector": statement("selector.select(1.0)", selector=selector),
        "epoll": statement("epoll.poll(1.0)", epoll=epoll),
        "poll": statement("poll.poll(1000)", poll=poll),
        "select": statement("select(of, [], [], 1.0)", select=library.select.select, of=given.sockets),
    }


def changing(new: str) -> Callable[[Any, Given], dict[str, Candidate]]:
    """Register and unregister, with and without a use of it; and the kinds of modify()."""

    def make(library: Any, given: Given) -> dict[str, Candidate]:
        sock = given.sockets[0]

        def change(text: str, *, registered: bool) -> Candidate:
            selector = getattr(library.selectors, new)()
            if registered:
                selector.register(sock, 1, "a")
            return statement(text, selector=selector, sock=sock, a="a", b="b")

        return {
            "register": change("selector.register(sock, 1, a); selector.unregister(sock)", registered=False),
            "register and select": change(
                "selector.register(sock, 1, a); selector.select(0); selector.unregister(sock)", registered=False
            ),
            # There and back, to end as it began: two calls, counted as two.
            "events": halved(change("selector.modify(sock, 3, a); selector.modify(sock, 1, a)", registered=True)),
            "data": halved(change("selector.modify(sock, 1, b); selector.modify(sock, 1, a)", registered=True)),
            "nothing": change("selector.modify(sock, 1, a)", registered=True),
        }

    return make


def epoll(library: Any, given: Given) -> dict[str, Candidate]:
    poller = library.select.epoll()
    for sock in given.sockets:
        poller.register(sock, select.EPOLLIN)
    check([fd for fd, _ in poller.poll(0)], given.ready)
    check([fd for fd, _ in poller.poll(timeout=0)], given.ready)
    if given.ready:
        check([fd for fd, _ in poller.poll(0, len(given.ready))], given.ready)
    return {
        "poll": statement("poller.poll(0)", poller=poller),
        "keyword": statement("poller.poll(timeout=0)", poller=poller),
        "maxevents": statement("poller.poll(0, most)", poller=poller, most=len(given.ready) or -1),
    }


def plain_epoll(library: Any, given: Given) -> dict[str, Candidate]:
    return {"poll": epoll(library, given)["poll"]}


def poll(library: Any, given: Given) -> dict[str, Candidate]:
    poller = library.select.poll()
    for sock in given.sockets:
        poller.register(sock, select.POLLIN)
    check([fd for fd, _ in poller.poll(0)], given.ready)
    return {"poll": statement("poller.poll(0)", poller=poller)}


def lists(library: Any, given: Given) -> dict[str, Candidate]:
    """select.select, with the sockets themselves and with their numbers."""
    fds = [sock.fileno() for sock in given.sockets]
    check([sock.fileno() for sock in library.select.select(given.sockets, [], [], 0)[0]], given.ready)
    check(library.select.select(fds, [], [], 0)[0], given.ready)
    text = "select(of, [], [], 0)"
    return {
        "sockets": statement(text, select=library.select.select, of=given.sockets),
        "ints": statement(text, select=library.select.select, of=fds),
    }


def beyond(given: Given) -> dict[str, Candidate]:
    """More than the standard select.select can take, against poll(); the latter alone if the mirror refuses it too."""
    candidates = {"standard sockets": poll(LIBRARIES["standard"], given)["poll"]}
    with contextlib.suppress(ValueError):
        candidates["fastmux sockets"] = lists(fastmux, given)["sockets"]
    return candidates


def life(library: Any, given: Given) -> dict[str, Candidate]:
    """A selector for one question. The second is what Popen.communicate and multiprocessing.connection.wait do."""
    one, other = given.sockets[:2]
    text = "selector = new(); selector.register(one, 1); {}selector.select(0); selector.close()"
    pollster = text.format("selector.register(other, 1); ")
    return {
        "epoll": statement(text.format(""), new=library.selectors.EpollSelector, one=one),
        "poll": statement(pollster, new=library.selectors.PollSelector, one=one, other=other),
    }


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
        "subprocess": patched(statement(command, run=subprocess.run)),
        "multiprocessing": patched(statement("wait(sockets, 0)", wait=wait, sockets=given.sockets)),
        "asyncio": bytes_through_asyncio(library.selectors.DefaultSelector()),
    }


def bytes_through_asyncio(selector: Any) -> Candidate:
    """A byte written by one end of a connection and read by the other, both in one event loop."""
    import asyncio
    import time

    loop = asyncio.SelectorEventLoop(selector)
    ends = [loop.run_until_complete(asyncio.open_connection(sock=sock)) for sock in socket.socketpair()]

    async def write_and_read(times: int) -> float:
        (_, writer), (reader, _) = ends
        begin = time.perf_counter()
        for _ in range(times):
            writer.write(b"x")
            await reader.readexactly(1)
        return time.perf_counter() - begin

    return lambda times: loop.run_until_complete(write_and_read(times))


if __name__ == "__main__":
    measure.main({
        **{name: both(asking(name)) for name in ("EpollSelector", "PollSelector", "SelectSelector")},
        **{f"{name} changes": both(changing(name)) for name in ("EpollSelector", "PollSelector")},
        "timed": both(timed),
        "epoll": both(plain_epoll),
        "epoll arguments": both(epoll),
        "poll": both(poll),
        "select": both(lists),
        "beyond 1024": beyond,
        "life": both(life),
        "programs": both(programs),
    })  # fmt: skip
