"""The asyncio event loop: the standard selector loop, with its turn, its socket transport and some calls replaced.

asyncio_private.py lists the private parts of asyncio on which the loop relies.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import sslproto
from collections.abc import Coroutine
from contextvars import Context
from selectors import EVENT_READ, BaseSelector
from typing import Any, TypeVar

from fastmux import selectors
from fastmux._events import EXCLUSIVE

from .sock_calls import SocketCalls
from .stream import _SocketTransport
from .turn import Turn

_T = TypeVar("_T")


class EventLoop(Turn, SocketCalls):
    """The standard library's event loop on this package's poller, with the same semantics."""

    def __init__(self, selector: BaseSelector | None = None) -> None:
        #: Descriptors of listening sockets that are watched with EXCLUSIVE.
        self._exclusive: set[int] = set()
        own = None
        try:
            if selector is None:
                selector = own = selectors.DefaultSelector()
            super().__init__(selector)
        except BaseException:  # no descriptor left, for example
            if own is not None:
                own.close()
            self._closed = True  # for __del__, which would close the rest
            raise

    # Transports

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        context: Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return _SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        context: Context | None = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol: Any = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        _SocketTransport(self, rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    def _remove_reader(self, fd: Any) -> bool:
        """Stop watching fd for input. Every transport that pauses, ends or closes calls this."""
        self._stop_reading_along(fd)
        if self._exclusive and fd in self._exclusive and fd in self._selector.get_map():
            key = self._selector.unregister(fd)
            key.data[0].cancel()
            return True
        return super()._remove_reader(fd)

    async def create_server(
        self, *args: Any, exclusive: bool = False, start_serving: bool = True, **options: Any
    ) -> asyncio.Server:
        """Create a server, as the standard loop does.

        exclusive: for several processes that accept connections from one listening socket, each with exclusive=True. A
        connection then wakes one or a few of them instead of all. Needs epoll and the extension, else ValueError.
        """
        if exclusive and not hasattr(self._selector, "wakeup"):  # not fastmux's EpollSelector
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


if not hasattr(socket.socket, "sendmsg"):  # Windows: the standard transports
    del EventLoop._make_socket_transport, EventLoop._make_ssl_transport


def new_event_loop() -> EventLoop:
    """Return a new event loop; the loop_factory for ``asyncio.run()`` and ``asyncio.Runner``."""
    return EventLoop()


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
