"""The transport of a stream socket: what is not in csrc/python/loop/stream_transport.c.

It has the attributes of the standard transport, on which the standard library's sendfile(), start_tls() and TLS rely,
and takes over those of its methods that are called rarely.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import constants, trsock
from inspect import signature
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from fastmux import _binding
from fastmux.loop.asyncio_private import StandardTransport

from .tls import TLSProtocol

if TYPE_CHECKING:
    from fastmux.loop import _native
else:
    _native = _binding.import_loop()

_logger = logging.getLogger("asyncio")
#: The most buffers of one sendmsg() call.
_BUFFERS: Final = 1024


class _SocketTransport(_native.StreamCore):
    """A connected stream socket."""

    __slots__ = ("__dict__", "__weakref__")

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Any = None,
    ) -> None:
        self._start(loop, sock, protocol, waiter, extra, server, context)

    # Methods of the standard transport that use only the attributes that this one has, too.

    __repr__ = StandardTransport.__repr__
    _fatal_error = StandardTransport._fatal_error
    _make_empty_waiter = StandardTransport._make_empty_waiter
    _read_ready__on_eof = StandardTransport._read_ready__on_eof
    _reset_empty_waiter = StandardTransport._reset_empty_waiter
    abort = StandardTransport.abort
    can_write_eof = StandardTransport.can_write_eof
    get_protocol = StandardTransport.get_protocol
    is_reading = StandardTransport.is_reading
    pause_reading = StandardTransport.pause_reading
    resume_reading = StandardTransport.resume_reading
    write_eof = StandardTransport.write_eof

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        extra = self._extra
        if name in ("socket", "sockname") and name not in extra:
            sock = self._sock  # sets the name, too
            if name == "socket" and (sock is not None or (sock := self._closed_sock) is not None):
                extra[name] = trsock.TransportSocket(sock)
        return extra.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        # TLSProtocol has the methods of both kinds. Bytes cost less than a view of a buffer.
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol) and not isinstance(protocol, TLSProtocol)
        self._protocol_connected = True

    # Where a program has replaced methods of socket.socket

    def _read_by_method(self) -> None:
        if self._buffered:
            StandardTransport._read_ready__get_buffer(self)
        else:
            StandardTransport._read_ready__data_received(self)

    def _write_by_method(self, data: Any) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal write error on socket transport")
            return
        if sent < memoryview(data).nbytes:
            self._keep((data,), sent)

    # Sending what the socket did not take at once

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._buffer))

    def _lost_write(self) -> None:
        """Count a write after the connection was lost."""
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            _logger.warning("socket.send() raised exception.")
        self._conn_lost += 1

    def _write_ready_by_method(self) -> None:
        try:
            sent = self._sock.sendmsg(list(islice(self._buffer, _BUFFERS)))
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._write_failed(exc)
            return
        self._drop(sent)
        self._after_sending()

    def _write_failed(self, exc: BaseException) -> None:
        self._loop._remove_writer(self._sock_fd)
        self._buffer.clear()
        self._fatal_error(exc, "Fatal write error on socket transport")
        if self._empty_waiter is not None:
            self._empty_waiter.set_exception(exc)

    def _after_sending(self) -> None:
        """Continue what waits for the buffer to become shorter, or empty."""
        self._maybe_resume_protocol()  # which may append
        if not self._buffer:
            self._loop._remove_writer(self._sock_fd)
            if self._empty_waiter is not None:
                self._empty_waiter.set_result(None)
            if self._closing:
                self._call_connection_lost(None)
            elif self._eof:
                self._sock.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        """Continue after a turn's gathered data was sent, or a part of it."""
        self._write_ready()
        if self._buffer and not self._conn_lost:
            self._add_writer(self._sock_fd, self._write_ready)
            self._maybe_pause_protocol()

    # The end

    def _force_close(self, exc: BaseException | None) -> None:
        """As the standard method, which counts the bytes of the buffer since Python 3.15."""
        if self._conn_lost:
            return
        if self._buffer:
            self._buffer.clear()
            self._loop._remove_writer(self._sock_fd)
        if not self._closing:
            self._closing = True
            self._loop._remove_reader(self._sock_fd)
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, exc, context=self._context)

    def _attach(self) -> None:
        if _TAKES_TRANSPORT:
            self._server._attach(self)
        else:
            self._server._attach()

    def _detach(self) -> None:
        server, self._server = self._server, None
        if _TAKES_TRANSPORT:
            server._detach(self)
        else:
            server._detach()

    def _fail_empty_waiter(self) -> None:
        self._empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))


#: Servers count their connections, and know the transports since Python 3.13.
_TAKES_TRANSPORT: Final = "transport" in signature(asyncio.Server._attach).parameters  # type: ignore[attr-defined]
