"""The asyncio event loop: the standard selector loop, with its turns, its socket transports and some calls replaced.

What it relies on in asyncio is listed in _private.py.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import sslproto
from collections.abc import Callable, Coroutine
from contextvars import Context
from selectors import EVENT_READ, BaseSelector
from typing import TYPE_CHECKING, Any, TypeVar

from ._checks import EXCLUSIVE, PEER_CLOSED, PRIORITY, descriptor
from ._conditions import Conditions
from ._extended import PlainEpoll
from ._sockets import SocketCalls
from ._transports import SocketTransport
from ._turn import Turn
from .selectors import DefaultSelector

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_T = TypeVar("_T")


class EventLoop(Turn, SocketCalls):
    """The standard library's event loop on this package's poller, with the same semantics."""

    def __init__(self, selector: BaseSelector | None = None) -> None:
        self._conditions: Conditions | None = None
        #: Listening sockets that are watched together with other processes, by descriptor.
        self._exclusive: set[int] = set()
        own = None
        try:
            if selector is None:
                selector = own = DefaultSelector()
            super().__init__(selector)
        except BaseException:  # no descriptor left, for example
            if own is not None:
                own.close()
            self._closed = True  # so that __del__ leaves alone what is not there
            raise

    def close(self) -> None:
        if self._conditions is not None and not self.is_running():
            self._conditions.close()
            self._conditions = None
        super().close()

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
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

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
        SocketTransport(self, rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    def _remove_reader(self, fd: Any) -> bool:
        """Stop watching fd for input; every transport that pauses, ends or closes comes by here."""
        self._stop_reading_along(fd)
        if self._exclusive and fd in self._exclusive and fd in self._selector.get_map():
            key = self._selector.unregister(fd)
            key.data[0].cancel()
            return True
        return super()._remove_reader(fd)

    # More than the standard loop can do

    def add_urgent(self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback(*args)`` whenever urgent (out-of-band) data has come and has not been read.

        fd may be a transport's. Linux only.
        """
        self._watch_condition(fd, PRIORITY, callback, args)

    def remove_urgent(self, fd: FileDescriptorLike) -> bool:
        """Undo add_urgent(); return whether there was anything to undo. To be called before fd is closed."""
        return self._conditions is not None and self._conditions.forget(descriptor(fd), PRIORITY)

    def on_peer_close(self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Call ``callback(*args)`` once, when the peer sends no more: nothing has to be read to learn of it.

        That is a half-close, a close or an error; there may be data that was sent before. fd may be a transport's,
        one that has paused reading, for example. Cancel the handle to be left alone. Linux only.
        """
        return self._watch_condition(fd, PEER_CLOSED, callback, args)

    def _watch_condition(
        self, fd: FileDescriptorLike, condition: int, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> asyncio.Handle:
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, None)
        if self._conditions is None:
            self._conditions = Conditions(self)
        self._conditions.watch(descriptor(fd), condition, handle)
        return handle

    async def create_server(
        self, *args: Any, exclusive: bool = False, start_serving: bool = True, **options: Any
    ) -> asyncio.Server:
        """Create a server, as the standard loop does.

        exclusive: of several processes that wait for connections on the same listening socket, each of which must say
        so, a connection wakes one or a few and not all. Linux only; ValueError if the selector cannot do it.
        """
        if exclusive and not isinstance(self._selector, PlainEpoll):
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
