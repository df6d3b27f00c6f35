"""The asyncio event loop: core.py on the C core, portable.py without it.

asyncio_private.py lists the private parts of asyncio on which the loop relies.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from selectors import EVENT_READ, BaseSelector
from typing import TYPE_CHECKING, Any, TypeVar

from fastmux import _binding, selectors
from fastmux._events import EXCLUSIVE

try:
    if _binding.implementation == "python":
        raise ImportError
    from .core import CoreLoop as _Loop
except ImportError:
    if not TYPE_CHECKING:
        from .portable import PortableLoop as _Loop

_T = TypeVar("_T")


class EventLoop(_Loop):
    """The standard library's event loop on this package's poller, with the same semantics.

    gather_writes: keep what stream transports write, up to 64 KiB each, and send it at the end of the turn, which saves
    system calls. write() then returns before it sends: an error shows in a later call, and data leaves after the
    callbacks of the turn. None: if the environment variable FASTMUX_GATHER_WRITES is 1. Needs the extension.
    """

    #: Makes the selector of a loop that gets none. install() replaces it.
    _make_selector: Callable[[], BaseSelector] = staticmethod(selectors.DefaultSelector)

    def __init__(self, selector: BaseSelector | None = None, *, gather_writes: bool | None = None) -> None:
        #: Descriptors of listening sockets that are watched with EXCLUSIVE.
        self._exclusive: set[int] = set()
        own = None
        try:
            if selector is None:
                selector = own = self._make_selector()
            super().__init__(selector)
            if gather_writes is None:
                gather_writes = os.environ.get("FASTMUX_GATHER_WRITES") == "1"
            self._gathers = gather_writes
        except BaseException:  # no descriptor left, for example
            if own is not None:
                own.close()
            self._closed = True  # for __del__, which would close the rest
            raise

    async def create_server(
        self, *args: Any, exclusive: bool = False, start_serving: bool = True, **options: Any
    ) -> asyncio.Server:
        """Create a server, as the standard loop does.

        exclusive: for several processes that accept connections from one listening socket, each with exclusive=True. A
        connection then wakes one or a few of them instead of all. Needs epoll and the extension, else ValueError.
        """
        if exclusive and not self._uses_core:
            raise ValueError(f"{type(self._selector).__name__} cannot watch exclusively")
        server = await super().create_server(*args, start_serving=start_serving and not exclusive, **options)
        if exclusive:
            self._exclusive.update(sock.fileno() for sock in server.sockets)
            try:
                if start_serving:
                    await server.start_serving()
            except BaseException:
                server.close()
                raise
        return server

    def _start_serving(self, protocol_factory: Any, sock: Any, *args: Any, **options: Any) -> None:
        super()._start_serving(protocol_factory, sock, *args, **options)
        if sock.fileno() in self._exclusive:
            key = self._selector.get_key(sock.fileno())
            self._selector.modify(key.fd, EVENT_READ | EXCLUSIVE, key.data)

    def _stop_serving(self, sock: Any) -> None:
        fd = sock.fileno()
        super()._stop_serving(sock)
        self._exclusive.discard(fd)


EventLoop.__module__ = "fastmux"  # its public name


def new_event_loop(*, gather_writes: bool | None = None) -> EventLoop:
    """Return a new event loop; the loop_factory for ``asyncio.run()`` and ``asyncio.Runner``. See EventLoop."""
    return EventLoop(gather_writes=gather_writes)


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run a coroutine on a new EventLoop, as ``asyncio.run()`` does on the standard one."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("fastmux.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            asyncio.runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
