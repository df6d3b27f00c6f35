"""TLS: the standard library's protocol and transport, with short paths for data.

The standard classes have the states of a connection: handshake, timeouts, flow control, shutdown, errors. What is here
replaces the methods that run for each piece of data: bytes go from the transport below into a memory BIO, through the
SSL object to the application, and back through the other BIO.

Facts about OpenSSL, as the module ssl sets it up:

- read() returns data of one record, at most 16 KiB, and takes no more from the BIO than that needs. So if the BIO is
  empty and read() has returned less than it was asked for, the next call would raise SSLWantReadError.
- write() encrypts one record at a time, and returns how much of the data that was.
"""

from __future__ import annotations

import sys
from asyncio import sslproto
from typing import Any, Final

from .asyncio_private import StandardTLS, StandardTLSTransport

#: The TLS of Python 3.10 has other states, and stays as it is.
SUPPORTED: Final = sys.version_info >= (3, 11) and hasattr(sslproto, "SSLAgainErrors")
#: The most data of one record.
_RECORD: Final = 16 * 1024
#: Longer data leaves the BIO in pieces of this size: the BIO moves what it has whenever it grows.
_PIECE: Final = 4 * _RECORD
_READ_SIZE: Final = 256 * 1024

if SUPPORTED:
    _AGAIN: Any = vars(sslproto)["SSLAgainErrors"]
    _ESTABLISHED: Any = vars(sslproto)["SSLProtocolState"].WRAPPED
_MESSAGE: Final = "Fatal error on SSL protocol"


def is_supported(loop: Any) -> bool:
    """Return whether the loop uses TLSProtocol: in debug mode, it is the standard one."""
    return SUPPORTED and not loop.get_debug()


def can_start(transport: Any, sslcontext: Any) -> bool:
    """Return whether start_tls() accepts its arguments."""
    context_type = vars(sslproto)["ssl"].SSLContext
    return isinstance(sslcontext, context_type) and bool(getattr(transport, "_start_tls_compatible", False))


class _SSLProtocolTransport(StandardTLSTransport):
    """The transport of the application. Programs know its name."""

    def write(self, data: Any) -> None:
        tls = self._ssl_protocol
        if (
            type(data) is not bytes
            or not 0 < len(data) <= _RECORD
            or tls._state is not _ESTABLISHED
            or tls._write_backlog
        ):
            super().write(data)
            return
        try:
            try:
                sent = tls._sslobj.write(data)
            except _AGAIN:
                sent = 0
            if sent < len(data) or tls._ssl_writing_paused or tls._app_writing_paused or tls._has_zero_limit:
                tls._write_appdata((data[sent:],) if sent < len(data) else ())
            else:
                tls._transport.write(tls._outgoing.read())
        except Exception as exc:
            tls._fatal_error(exc, _MESSAGE)


class TLSProtocol(StandardTLS):
    """The protocol of the transport below."""

    #: Of one read(). The standard class makes a buffer of this size, too, which only get_buffer() uses.
    max_size = _RECORD
    #: Set after the other limit.
    _outgoing_high_water = 0

    def _get_app_transport(self) -> Any:
        if self._app_transport is None and not self._app_transport_created:
            self._app_transport = _SSLProtocolTransport(self._loop, self)
            self._app_transport_created = True
        return super()._get_app_transport()

    def _set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super()._set_read_buffer_limits(high, low)
        self._has_zero_limit = not (self._incoming_high_water and self._outgoing_high_water)

    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super()._set_write_buffer_limits(high, low)
        self._has_zero_limit = not (self._incoming_high_water and self._outgoing_high_water)

    # Data from the transport below: by data_received() from the one in C, else into a buffer

    def get_buffer(self, hint: int) -> memoryview:
        if len(self._ssl_buffer) < _READ_SIZE:
            self._ssl_buffer = bytearray(_READ_SIZE)
            self._ssl_buffer_view = memoryview(self._ssl_buffer)
        view: memoryview = self._ssl_buffer_view
        return view

    def data_received(self, data: bytes) -> None:
        incoming, size = self._incoming, len(data)
        incoming.write(data)
        if self._state is not _ESTABLISHED or self._app_reading_paused or self._app_protocol_is_buffer:
            self._advance()
            return
        try:
            try:
                chunk = self._sslobj.read(size if size < _RECORD else _RECORD)
            except _AGAIN:
                pass
            else:
                if incoming.pending or not 0 < len(chunk) < size:
                    self._deliver(chunk)
                else:
                    self._app_protocol.data_received(chunk)
            if self._write_backlog:
                self._do_write()
            elif self._outgoing.pending or self._app_writing_paused or self._has_zero_limit:
                self._process_outgoing()
            if self._ssl_reading_paused or incoming.pending or self._has_zero_limit:
                self._control_ssl_reading()
        except Exception as exc:
            self._fatal_error(exc, _MESSAGE)

    def _advance(self) -> None:
        """Continue with what is in the BIO."""
        try:
            self.buffer_updated(0)
        except Exception as exc:
            self._transport._fatal_error(exc, "Fatal error: protocol.buffer_updated() call failed.")

    # Data to the application

    def _do_read__copied(self) -> None:
        try:
            chunk = self._sslobj.read(_RECORD)
        except _AGAIN:
            return
        self._deliver(chunk)

    def _deliver(self, chunk: bytes) -> None:
        """Deliver a chunk and all that follows."""
        read, incoming = self._sslobj.read, self._incoming
        chunks = [chunk]
        try:
            while chunk and (incoming.pending or len(chunk) == _RECORD or self._sslobj.pending()):
                chunk = read(_RECORD)
                chunks.append(chunk)
        except _AGAIN:
            pass
        if chunks[0]:
            self._app_protocol.data_received(b"".join(chunks))
        if not chunk:
            self._receive_close_notify()

    def _do_read__buffered(self) -> None:
        buffer = self._app_protocol_get_buffer(self._get_read_buffer_size())
        size, filled, count = len(buffer), 0, 1
        try:
            with memoryview(buffer) as view:
                while True:
                    with view[filled:] as free:
                        count = self._sslobj.read(size - filled, free)
                    filled += count
                    if not count or filled >= size or not (self._incoming.pending or self._sslobj.pending()):
                        break
        except _AGAIN:
            pass
        if filled >= size and count:
            self._loop.call_soon(self._do_read)
        if filled:
            self._app_protocol_buffer_updated(filled)
        if not count:
            self._receive_close_notify()

    def _receive_close_notify(self) -> None:
        self._call_eof_received()
        self._start_shutdown()

    # Data from the application

    def _do_write(self) -> None:
        """Encrypt what waits to be written, and send it."""
        backlog, write, outgoing = self._write_backlog, self._sslobj.write, self._outgoing
        pieces: list[bytes] = []
        try:
            while backlog:
                data = rest = backlog[0]
                try:
                    count = write(data)
                    while count < len(rest):
                        rest = memoryview(rest).cast("B")[count:]
                        if outgoing.pending >= _PIECE and not self._ssl_writing_paused:
                            pieces.append(outgoing.read())
                        count = write(rest)
                except _AGAIN:
                    # A view would keep a bytearray from changing its size.
                    backlog[0] = rest if type(data) is bytes else bytes(rest)
                    self._write_buffer_size -= len(data) - len(rest)
                    raise
                del backlog[0]
                self._write_buffer_size -= len(data)
        except _AGAIN:
            pass
        if pieces:
            pieces.append(outgoing.read())
            self._transport.writelines(pieces)
        self._process_outgoing()
