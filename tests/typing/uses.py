"""A program for type checkers only: calls that they must accept, with their types, and calls that they must reject.

Each wrong line has a ``type: ignore``; a checker reports it as unused if the line is accepted (``nox -s types``).
"""

import asyncio
import select
import socket
from selectors import SelectorKey

from typing_extensions import assert_type

import fastmux
from fastmux import selectors

sock = socket.socket()

# Poller

with fastmux.Poller() as poller, fastmux.StdlibPoller("poll", capacity=16) as second:
    assert_type(poller, fastmux.Poller)
    assert_type(poller.register(sock, fastmux.READ | fastmux.EDGE, data=asyncio), SelectorKey)
    assert_type(poller.register(3), SelectorKey)
    assert_type(poller.modify(sock, fastmux.WRITE), SelectorKey)
    assert_type(poller.poll(1.5, maxevents=10), list[tuple[int, int]])
    assert_type(poller.select(), list[tuple[SelectorKey, int]])
    assert_type(poller.wait(0), int)
    assert_type(poller.fds[0], int)
    assert_type(poller.mechanism, str)
    assert_type(poller.closed, bool)
    assert_type(poller.capacity, int)
    assert_type(poller.get_map()[sock], SelectorKey)
    assert_type(sock in poller, bool)
    assert_type(fastmux.Poller.mechanisms, tuple[str, ...])
    both: list[fastmux.StdlibPoller | fastmux.Poller] = [poller, second]

fastmux.Poller(1)  # type: ignore[arg-type]
fastmux.Poller("epoll", 16)  # type: ignore[call-arg]
poller.register(sock, "read")  # type: ignore[arg-type]
poller.poll("1")  # type: ignore[arg-type]
poller.wait(maxevents=1)  # type: ignore[call-arg]
poller.mechanism = "poll"  # type: ignore[misc]
poller.no_such_method()  # type: ignore[attr-defined]
print(fastmux.no_such_name)  # type: ignore[attr-defined]

# Mirrors

readable, writable, _ = fastmux.select.select([sock], [3], [])
assert_type(readable, list[socket.socket])
assert_type(writable, list[int])
assert_type(fastmux.select.EPOLLIN, int)
with fastmux.select.epoll(sizehint=2) as epoll:
    epoll.register(sock, select.EPOLLIN | fastmux.select.EPOLLET)
    assert_type(epoll.poll(timeout=1.0, maxevents=2), list[tuple[int, int]])
poll = fastmux.select.poll()
poll.register(sock, fastmux.select.POLLIN)
assert_type(poll.poll(1000), list[tuple[int, int]])

fastmux.select.select([sock], [], ["text"])  # type: ignore[type-var]
fastmux.select.select([sock], [])  # type: ignore[call-arg]
epoll.poll("1")  # type: ignore[arg-type]

for selector in (selectors.PollSelector(), selectors.SelectSelector()):
    assert_type(selector.register(sock, selectors.EVENT_READ, data="any"), SelectorKey)
    assert_type(selector.select(0.5), list[tuple[SelectorKey, int]])
for epoll_selector in (selectors.DefaultSelector(), selectors.EpollSelector(fork="rebuild")):
    events = selectors.EVENT_READ | selectors.EVENT_PRIORITY | fastmux.PEER_CLOSED
    assert_type(epoll_selector.register(sock, events, data="any"), SelectorKey)
    assert_type(epoll_selector.select(0.5), list[tuple[SelectorKey, int]])
    epoll_selector.wakeup()
standard: selectors.BaseSelector = selectors.DefaultSelector()

selectors.EpollSelector(True)  # type: ignore[call-arg, arg-type]
selectors.PollSelector().register(sock, None)  # type: ignore[arg-type]

# Patching, and the event loop


async def main() -> str:
    loop = asyncio.get_running_loop()
    if isinstance(loop, fastmux.EventLoop):
        assert_type(await loop.create_server(asyncio.Protocol, sock=sock, exclusive=True), asyncio.Server)
    return "done"


with fastmux.patch():
    assert_type(fastmux.run(main(), debug=True), str)
with asyncio.Runner(loop_factory=fastmux.new_event_loop) as runner:
    assert_type(runner.run(main()), str)

fastmux.run(main)  # type: ignore[arg-type]
