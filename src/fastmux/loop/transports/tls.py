"""TLS: the standard library's protocol and transport, with short paths for data.

The standard classes have the states of a connection: handshake, timeouts, flow control, shutdown, errors. What is here
replaces the methods that run for each piece of data: bytes go from the transport below into a memory BIO, through the
SSL object to the application, and back through the other BIO.

Facts about OpenSSL, as the module ssl sets it up:

- read() returns data of one record, at most 16 KiB, and takes no more from the BIO than that needs. So if the BIO is
  empty and read() has returned less than it was asked for, the next call would raise SSLWantReadError.
- write() encrypts all data at once, unless it first has to receive something.
"""

from __future__ import annotations

import sys
from asyncio import sslproto
from itertools import pairwise
from typing import Any, Final

from fastmux.loop.asyncio_private import StandardTLS, StandardTLSTransport, StandardTransport

#: The TLS of Python 3.10 has other states, and stays as it is.
SUPPORTED: Final = sys.version_info >= (3, 11) and hasattr(sslproto, "SSLAgainErrors")
#: The most data of one record.
_RECORD: Final = 16 * 1024
#: Longer data is encrypted in pieces of this size, which stay in the cache: 0.9 of the time for 1 MB.
_PIECE: Final = 8 * _RECORD
#: Pieces of one system call.
_PIECES: Final = 32
_READ_SIZE: Final = 256 * 1024

if SUPPORTED:
    _AGAIN: Any = vars(sslproto)["SSLAgainErrors"]
    _SSLError: Any = vars(sslproto)["ssl"].SSLError
    _STATES: Any = vars(sslproto)["SSLProtocolState"]
    _UNWRAPPED: Any = _STATES.UNWRAPPED
    _HANDSHAKE: Any = _STATES.DO_HANDSHAKE
    _ESTABLISHED: Any = _STATES.WRAPPED
    _SHUTDOWN: Any = _STATES.SHUTDOWN
    #: Pairs of a state and the next one.
    _STEPS: Any = tuple(pairwise((_UNWRAPPED, _HANDSHAKE, _ESTABLISHED, _STATES.FLUSHING, _SHUTDOWN)))
_MESSAGE: Final = "Fatal error on SSL protocol"
#: That of the transport below, which the standard protocol uses as a buffered one.
_UPDATE_MESSAGE: Final = "Fatal error: protocol.buffer_updated() call failed."


def is_supported(loop: Any) -> bool:
    """Return whether the loop uses TLSProtocol: in debug mode, it is the standard one."""
    return SUPPORTED and not loop.get_debug()


def can_start(transport: Any, sslcontext: Any) -> bool:
    """Return whether start_tls() accepts its arguments."""
    context_type = vars(sslproto)["ssl"].SSLContext
    return isinstance(sslcontext, context_type) and bool(getattr(transport, "_start_tls_compatible", False))


def server_factory(loop: Any, protocol_factory: Any, sslcontext: Any, options: tuple[Any, ...]) -> Any:
    """Return a function that makes the protocol of an accepted connection, or None if the standard class is needed.

    The options are a backlog, and perhaps the time limits of handshake and shutdown, and a context. Nobody waits for
    the handshake: if it fails, the connection is closed.
    """
    if not is_supported(loop):
        return None
    protocol_class: Any = TLSProtocol
    return lambda: protocol_class(loop, protocol_factory(), sslcontext, None, True, None, True, *options[1:3])


def take_buffered(protocol: Any, ssl_protocol: Any) -> None:
    """Take what a StreamReader has received and not delivered: the client's first message."""
    if (reader := protocol._stream_reader) is not None:
        ssl_protocol._incoming.write(reader._buffer)
        reader._buffer.clear()


class _SSLProtocolTransport(StandardTLSTransport):
    """The transport of the application. Programs know its name."""

    def write(self, data: Any) -> None:
        tls = self._ssl_protocol
        if (
            (type(data) is not bytes and type(data) is not bytearray)
            or not data
            or tls._state is not _ESTABLISHED
            or tls._write_backlog
            or tls._ssl_writing_paused
            or tls._app_writing_paused
            or tls._has_zero_limit
        ):
            super().write(data)
            return
        try:
            if len(data) > _PIECE:
                sent = tls._write_pieces(data)
            else:
                try:
                    sent = tls._sslobj.write(data)
                except _AGAIN:
                    sent = 0
                if tls._outgoing.pending:
                    tls._transport.write(tls._outgoing.read())
            if sent < len(data):
                tls._write_appdata((data[sent:],))
        except Exception as exc:
            tls._fatal_error(exc, _MESSAGE)


class TLSProtocol(StandardTLS):
    """The protocol of the transport below."""

    #: The standard class makes a buffer of this size, which only get_buffer() uses.
    max_size = 0
    #: Set after the other limit.
    _outgoing_high_water = 0

    def _get_app_transport(self) -> Any:
        if self._app_transport is None and not self._app_transport_created:
            self._app_transport = _SSLProtocolTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport or super()._get_app_transport()

    def _set_state(self, new_state: Any) -> None:
        if new_state is not _UNWRAPPED and (self._state, new_state) not in _STEPS:
            super()._set_state(new_state)
        self._state = new_state

    # The handshake

    def _do_handshake(self) -> None:
        if self._server_side and not self._incoming.pending:
            return  # a server waits for the first message
        try:
            self._sslobj.do_handshake()
        except _AGAIN:
            self._process_outgoing()
        except _SSLError as exc:
            self._on_handshake_complete(exc)
        else:
            self._on_handshake_complete(None)

    # Limits of the buffers

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
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._transport._fatal_error(exc, _UPDATE_MESSAGE)

    def _advance(self) -> None:
        """Continue with what is in the BIO."""
        try:
            if self._state is _HANDSHAKE:
                self._do_handshake()
            elif self._state is _ESTABLISHED:
                self._do_read()
            else:
                self.buffer_updated(0)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._transport._fatal_error(exc, _UPDATE_MESSAGE)

    # Data to the application

    def _do_read__copied(self) -> None:
        if not (self._incoming.pending or self._sslobj.pending()):
            return
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

    def eof_received(self) -> bool | None:
        if (
            self._state is not _ESTABLISHED
            or self._app_reading_paused
            or self._incoming.pending
            or self._sslobj.pending()
            or self._write_backlog
            or self._outgoing.pending
            or self._has_zero_limit
        ):
            keep_open: bool | None = super().eof_received()
            return keep_open
        self._eof_received = True
        self._state = _SHUTDOWN
        self._call_eof_received()
        self._on_shutdown_complete(None)
        return None

    def _receive_close_notify(self) -> None:
        self._call_eof_received()
        self._start_shutdown()

    # Data from the application, and from OpenSSL itself

    def _process_outgoing(self) -> None:
        if self._ssl_writing_paused or self._app_writing_paused or self._write_buffer_size or self._has_zero_limit:
            super()._process_outgoing()
        elif self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _write_pieces(self, data: bytes | bytearray) -> int:
        """Encrypt and send long data; return how much of it that was."""
        pieces: list[bytes] = []
        sent = 0
        with memoryview(data) as view:
            try:
                while sent < len(data):
                    with view[sent : sent + _PIECE] as piece:
                        sent += self._sslobj.write(piece)
                    pieces.append(self._outgoing.read())
                    if len(pieces) == _PIECES:
                        self._send(pieces)
                        pieces = []
            except _AGAIN:
                pass
        if pieces:
            self._send(pieces)
        return sent

    def _send(self, pieces: list[bytes]) -> None:
        # The standard writelines() does not pause the writer, and fails if the transport is closed.
        if isinstance(self._transport, StandardTransport):
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)
