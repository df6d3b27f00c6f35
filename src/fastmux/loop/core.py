"""The event loop on the C core: the standard selector loop, with handles, timers, the turn and the transports in C
(csrc/python/loop)."""

from __future__ import annotations

import socket
import sys
from asyncio import StreamReaderProtocol
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from fastmux import _binding, selectors

from .asyncio_private import ATTRIBUTES, StandardLoop, StandardTLS, source_of
from .connect import ConnectingLoop
from .sock_calls import SockCalls
from .transports import process, tls
from .transports.datagram import FAMILIES, _DatagramTransport
from .transports.pipe import _ReadPipeTransport, _WritePipeTransport, are_plain
from .transports.stream import _SocketTransport

if TYPE_CHECKING:
    from . import _native
else:
    _native = _binding.import_loop()

#: The most descriptors that one wait reports.
_ROWS: Final = 256
#: Methods that the standard turn calls on the loop. If a subclass has its own, all turns are the standard loop's.
_TURN_METHODS: Final = ("time", "_process_events", "_add_callback", "_timer_handle_cancelled")


def _report(handle: Any, exc: BaseException) -> None:
    """Report an exception in a callback, as the standard handle does."""
    context = {
        "message": f"Exception in callback {source_of(handle._callback, handle._args)}",
        "exception": exc,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)


def _open_array(selector: Any) -> Any:
    """Return what the turn needs of a selector: a ready array and the objects behind it; None if it has no mux."""
    if type(selector) is not getattr(selectors, "EpollSelector", None) or getattr(selector, "_context", None) is None:
        return None  # without epoll in the core, that class is the standard one
    ready = _binding.open_ready(selector._context, _ROWS, True, _binding.fail)[0]
    return int(_binding.ffi.cast("uintptr_t", ready)), ready, selector._context, vars(selector)


class _Queue(_native.Ring):
    """The queue of callbacks, with the rarely used methods of a deque: each makes a deque, and copies it back."""


def _through_deque(name: str) -> Any:
    def method(self: _Queue, *args: Any) -> Any:
        items = deque(self)
        count = len(items)
        result = getattr(items, name)(*args)
        self._replace(count, list(items))
        return result

    return method


for _name in set(dir(deque)) - set(dir(_native.Ring)) - {"__class_getitem__", "__iter__", "maxlen"}:
    setattr(_Queue, _name, _through_deque(_name))

_native.setup(_Queue, _report, _open_array, _binding.fail)


class CoreLoop(SockCalls, ConnectingLoop):
    """The standard loop with the objects of the C core.

    A program may replace private parts: the selector, its select(), the clock, Handle._run. Then the standard loop's
    own turn runs, on the same queue and timers; with other socket classes, its own transport.
    """

    #: The interpreter finds the methods of an object sooner if its __dict__ is empty.
    __slots__ = (*ATTRIBUTES, "_exclusive")

    if sys.version_info >= (3, 14):
        # Its handles have a lock: cancelled() of another thread waits for the callback to end.
        call_soon_threadsafe = StandardLoop.call_soon_threadsafe

    def __init__(self, selector: Any = None) -> None:
        for name in _TURN_METHODS:
            own = _native.LoopCore if name == "time" else StandardLoop
            if getattr(type(self), name) is not getattr(own, name):
                self._overridden = True
        super().__init__(selector)

    def run_forever(self) -> None:
        """As the standard one, but several turns are one call of C, unless something has replaced _run_once()."""
        try:
            self._repeats = type(self)._run_once is _native.LoopCore._run_once
            super().run_forever()
        finally:
            self._repeats = False

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
        if not _native.is_plain(sock) or self._debug:
            in_context: Any = {} if context is None else {"context": context}
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **in_context)
        return _SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(
        self, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> Any:
        if not _native.is_plain(sock) or self._debug or sock.family not in FAMILIES or sock.type != socket.SOCK_DGRAM:
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        if sys.version_info >= (3, 12):  # as in the standard method
            self._ensure_fd_no_transport(sock)
        return _DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_read_pipe_transport(self, pipe: Any, protocol: Any, *args: Any, **options: Any) -> Any:
        if self._debug or not are_plain():
            return super()._make_read_pipe_transport(pipe, protocol, *args, **options)
        return _ReadPipeTransport(self, pipe, protocol, *args, **options)

    async def _make_subprocess_transport(self, protocol: Any, *args: Any, **options: Any) -> Any:
        if self._debug or not process.is_plain(self):
            return await super()._make_subprocess_transport(protocol, *args, **options)
        return await process.start(self, protocol, *args, **options)

    def _make_write_pipe_transport(self, pipe: Any, protocol: Any, *args: Any, **options: Any) -> Any:
        if self._debug or not are_plain():
            return super()._make_write_pipe_transport(pipe, protocol, *args, **options)
        return _WritePipeTransport(self, pipe, protocol, *args, **options)

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
        protocol_class: Any = tls.TLSProtocol if tls.is_supported(self) else StandardTLS
        ssl_protocol = protocol_class(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        **timeouts: Any,
    ) -> Any:
        if not tls.is_supported(self) or not tls.can_start(transport, sslcontext):
            return await super().start_tls(
                transport, protocol, sslcontext, server_side=server_side, server_hostname=server_hostname, **timeouts
            )
        waiter: Any = self.create_future()
        protocol_class: Any = tls.TLSProtocol
        ssl_protocol = protocol_class(
            self, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made=False, **timeouts
        )
        transport.pause_reading()  # no data before connection_made()
        if server_side and isinstance(protocol, StreamReaderProtocol):
            tls.take_buffered(protocol, ssl_protocol)
        transport.set_protocol(ssl_protocol)
        started = self.call_soon(ssl_protocol.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            started.cancel()
            resumed.cancel()
            waiter = None  # the traceback of its exception has this frame
            raise
        return ssl_protocol._app_transport

    def _accept_connection(
        self, protocol_factory: Any, sock: Any, sslcontext: Any = None, server: Any = None, *args: Any, **options: Any
    ) -> None:
        """Accept all waiting connections, at most the backlog. They need no task."""
        own = all(getattr(getattr(self, name), "__func__", None) is made for name, made in _MAKE_TRANSPORT.items())
        factory = (
            protocol_factory if sslcontext is None else tls.server_factory(self, protocol_factory, sslcontext, args)
        )
        if factory is None or self._debug or not own or not _native.is_plain(sock):
            super()._accept_connection(protocol_factory, sock, sslcontext, server, *args, **options)
            return
        backlog = args[0] if args else 100
        # Since Python 3.15 the server's, after the time limits of TLS.
        context = args[3] if len(args) > 3 else options.get("context")
        served = _native.serve(self, _SocketTransport, sock, factory, server, context, backlog)
        # The standard method fails, too, and handles it: it pauses if descriptors are short.
        if not served and sock.fileno() >= 0:
            super()._accept_connection(protocol_factory, sock, sslcontext, server, *args, **options)


#: A program may replace these; the standard loop then calls its own.
_MAKE_TRANSPORT: Final = {name: vars(CoreLoop)[name] for name in ("_make_socket_transport", "_make_ssl_transport")}
