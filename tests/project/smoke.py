"""The main features of a build in one second: a program for systems where the suite cannot run (it needs /proc)."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import socket
import sys
import threading

import fastmux

TIMEOUT = 20


def check_poller(cls: type[fastmux.StdlibPoller], mechanism: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, cls(mechanism) as poller:
        key = poller.register(ours, fastmux.READ, data="ours")
        assert poller.poll(0) == []
        theirs.send(b"x")
        assert poller.poll() == [(ours.fileno(), fastmux.READ)]
        assert poller.select(TIMEOUT) == [(key, fastmux.READ)]
        assert poller.wait(TIMEOUT) == 1
        assert (poller.fds[0], poller.events[0]) == (ours.fileno(), fastmux.READ)
        poller.modify(ours, 0)
        thread = threading.Thread(target=poller.wakeup)
        thread.start()
        assert poller.poll(TIMEOUT) == []
        thread.join()
        poller.unregister(ours)
    assert poller.closed


def check_select() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert fastmux.select.select([ours], [theirs], []) == ([], [theirs], [])
        theirs.send(b"x")
        assert fastmux.select.select([ours], [], [], TIMEOUT) == ([ours], [], [])
        if hasattr(select, "poll"):  # not on Windows
            poll = fastmux.select.poll()
            poll.register(ours, select.POLLIN)
            assert poll.poll() == [(ours.fileno(), select.POLLIN)]


def check_selector(cls: type[selectors.BaseSelector]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, cls() as selector:
        key = selector.register(ours, selectors.EVENT_READ)
        assert selector.select(0) == []
        theirs.send(b"x")
        assert selector.select(TIMEOUT) == [(key, selectors.EVENT_READ)]


async def echo_over_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines([await reader.readexactly(2), await reader.readexactly(3)])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.read(), TIMEOUT) == b"hello"
        writer.close()
        await writer.wait_closed()


def main() -> None:
    assert fastmux.implementation == ("python" if os.environ.get("FASTMUX_PURE") else "c")
    for cls in (fastmux.Poller, fastmux.StdlibPoller):
        for mechanism in cls.mechanisms:
            check_poller(cls, mechanism)
    check_select()
    assert fastmux.selectors.DefaultSelector.__name__ == selectors.DefaultSelector.__name__
    names = sorted(
        {"SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector", "DefaultSelector"} & {*dir(selectors)}
    )
    for name in names:
        check_selector(getattr(fastmux.selectors, name))
    fastmux.run(echo_over_tcp())
    with fastmux.patch():
        for name in names:
            check_selector(getattr(selectors, name))
    print(sys.platform, "Poller:", *fastmux.Poller.mechanisms, "selectors:", *names)


main()
