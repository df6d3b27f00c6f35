"""The socket transport of the event loop: the standard one, with its hot paths replaced.

The transport does not receive by itself. The loop's wait receives from all ready sockets (fmux_stream_wait) and then
delivers the data. Between the two, callbacks may have paused, closed or changed a transport. So it checks its state
once more: a closing transport drops the data, a paused one keeps it in a backlog until it is resumed.

Where the loop does not receive in the wait (debug mode, another selector), it calls ``_read_ready`` of the standard
transport, which receives by itself.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import socket
from asyncio import constants
from collections.abc import Iterable
from contextvars import Context
from itertools import islice
from typing import Any, Final

from fastmux._binding import os_error

from .asyncio_private import StandardTransport

_logger = logging.getLogger("asyncio")
#: The most buffers of one sendmsg() call.
_BUFFERS: Final = 1024


class _SocketTransport(StandardTransport):  # type: ignore[misc]
    """A connected stream socket."""

    #: For reads by the standard transport: malloc() makes a mapping for each piece above 128 KiB.
    max_size = 64 * 1024

    _buffer_factory = collections.deque  # of the standard transport, up to Python 3.11

    _buffered = False
    #: Runs a function in the context of this transport's reader; None if it is not reading.
    _run_in: Any = None
    #: The same, if data may go to data_received() without another check; else None.
    _run_plain: Any = None
    #: The same for a BufferedProtocol.
    _run_buffered: Any = None

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        extra: Any = None,
        server: Any = None,
        context: Context | None = None,
    ) -> None:
        #: The context argument of all callbacks, from Python 3.15 on.
        self._in_context = {} if context is None else {"context": context}
        #: Received but not delivered: bytes, and at the end perhaps an error.
        self._backlog: collections.deque[bytes | OSError] = collections.deque()
        self._send = sock.send
        self._unsent = 0  # bytes in the buffer; stays as it is when the connection is lost
        super().__init__(loop, sock, protocol, waiter, extra, server, **self._in_context)

    # Reading

    def set_protocol(self, protocol: Any) -> None:
        super().set_protocol(protocol)
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._choose()

    def resume_reading(self) -> None:
        super().resume_reading()
        if self._backlog and self.is_reading():
            self._loop.call_soon(self._flush, **self._in_context)

    def _add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        """Begin to read; called by the standard transport, at the start and when it is resumed."""
        if self.is_reading():
            handle = self._loop._add_reader(fd, callback, *args, **self._in_context)
            self._loop._read_along(fd, self)
            self._started(handle._context)

    def _started(self, context: Context) -> None:
        self._run_in = context.run
        self._choose()

    def _stopped(self) -> None:
        """Record that the loop has stopped receiving for this transport."""
        self._run_in = self._run_plain = self._run_buffered = None

    def _choose(self) -> None:
        run = None if self._backlog else self._run_in
        self._run_plain, self._run_buffered = (None, run) if self._buffered else (run, None)

    def _receive(self, data: bytes) -> None:
        """Handle data that the loop has received, in any state."""
        if self._closing:
            return
        if self._run_in is None or self._backlog:
            self._keep(data)
        else:
            self._run_in(self._deliver, data)

    def _receive_end(self, length: int) -> None:
        """Handle the end of the stream (0) or an error (below 0)."""
        if self._closing:
            return
        if self._run_in is None or self._backlog:
            if length < 0:  # the end can be received again, an error cannot
                self._keep(os_error(length))
        elif length < 0:
            self._run_in(self._fatal_error, os_error(length), "Fatal read error on socket transport")
        else:
            self._run_in(self._read_ready__on_eof)

    def _keep(self, item: bytes | OSError) -> None:
        """Append to the backlog, and schedule its delivery."""
        self._backlog.append(item)
        self._choose()
        if self._run_in is not None:
            self._loop.call_soon(self._flush, **self._in_context)

    def _flush(self) -> None:
        """Deliver the backlog."""
        backlog = self._backlog
        try:
            while backlog and not self._closing and not self._paused:
                item = backlog.popleft()
                if isinstance(item, OSError):
                    self._fatal_error(item, "Fatal read error on socket transport")
                else:
                    self._deliver(item)
        finally:
            if self._closing:
                backlog.clear()
            else:
                self._choose()
                if backlog and self._run_in is not None:  # KeyboardInterrupt
                    self._loop.call_soon(self._flush, **self._in_context)

    def _deliver(self, data: bytes) -> None:
        """Deliver data to the protocol until it pauses."""
        while data and not self._closing:
            if self._paused:
                self._backlog.appendleft(data)
                self._choose()
                return
            if self._buffered:
                data = self._fill(data)
                continue
            try:
                self._protocol.data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, "Fatal error: protocol.data_received() call failed.")
            return

    def _fill_all(self, data: bytes) -> None:
        """Copy data to the buffers of a BufferedProtocol; usually one is enough."""
        if rest := self._fill(data):
            self._deliver(rest)

    def _fill(self, data: bytes) -> bytes:
        """Copy data to the buffer of a BufferedProtocol; return the rest."""
        protocol = self._protocol
        try:
            buffer = protocol.get_buffer(-1)
            room, length = len(buffer), len(data)
            if not room:
                raise RuntimeError("get_buffer() returned an empty buffer")
            if buffer.__class__ is not bytearray:
                buffer = memoryview(buffer)
                if buffer.format != "B" or buffer.ndim != 1:
                    buffer = buffer.cast("B")
                    room = len(buffer)
            if length <= room:
                buffer[:length] = data
            else:
                length = room
                buffer[:] = data[:room]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error: protocol.get_buffer() call failed.")
            return b""
        try:
            protocol.buffer_updated(length)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error: protocol.buffer_updated() call failed.")
            return b""
        return data[length:] if length < len(data) else b""

    # Writing

    def write(self, data: Any) -> None:
        """Send data at once, as far as the socket takes it; keep the rest."""
        if data.__class__ is not bytes and data.__class__ is not bytearray:
            data = _checked(data)
        if self._unsent or self._conn_lost or self._eof or self._empty_waiter is not None:
            if self._may_write("write") and data:
                self._append((data,), 0)
            return
        if not data:
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal write error on socket transport")
            return
        if sent != len(data):
            self._append((data,), sent)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send all of these in one call, as far as the socket takes them; keep the rest."""
        pieces = [piece for data in list_of_data if (piece := _checked(data))]
        if not self._may_write("writelines") or not pieces:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._sock.sendmsg(pieces[:_BUFFERS])
            except (BlockingIOError, InterruptedError):
                pass
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, "Fatal write error on socket transport")
                return
        self._append(pieces, sent)

    def _may_write(self, name: str) -> bool:
        """Return whether data can be sent or buffered, with the errors and the warning of the standard transport."""
        if self._eof:
            raise RuntimeError(f"Cannot call {name}() after write_eof()")
        if self._empty_waiter is not None:
            raise RuntimeError(f"unable to {name}; sendfile is in progress")
        if self._conn_lost:
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                _logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return False
        return True

    def _append(self, pieces: Iterable[Any], sent: int) -> None:
        """Buffer the rest of the pieces after the first ``sent`` bytes, until the socket is writable."""
        waiting = bool(self._buffer)
        for piece in pieces:
            length = len(piece)
            if sent >= length:
                sent -= length
                continue
            # A copy: the caller may change the original.
            rest = memoryview(piece)[sent:] if sent else piece
            self._buffer.append(rest if piece.__class__ is bytes else bytes(rest))
            self._unsent += length - sent
            sent = 0
        if self._buffer:
            if not waiting:
                self._loop._add_writer(self._sock_fd, self._write_ready, **self._in_context)
            self._maybe_pause_protocol()

    def get_write_buffer_size(self) -> int:
        return self._unsent if self._buffer else 0

    def _write_ready(self) -> None:
        """Send from the buffer; called when the socket is writable."""
        if self._conn_lost:
            return
        buffer = self._buffer
        try:
            sent = self._send(buffer[0]) if len(buffer) == 1 else self._sock.sendmsg(list(islice(buffer, _BUFFERS)))
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop._remove_writer(self._sock_fd)
            buffer.clear()
            self._unsent = 0
            self._fatal_error(exc, "Fatal write error on socket transport")
            if self._empty_waiter is not None:
                self._empty_waiter.set_exception(exc)
            return
        self._unsent -= sent
        while sent:
            first = buffer.popleft()
            if len(first) > sent:
                buffer.appendleft(memoryview(first)[sent:])
                break
            sent -= len(first)
        self._maybe_resume_protocol()  # which may append
        if not buffer:
            self._loop._remove_writer(self._sock_fd)
            if self._empty_waiter is not None:
                self._empty_waiter.set_result(None)
            if self._closing:
                self._call_connection_lost(None)
            elif self._eof:
                self._sock.shutdown(socket.SHUT_WR)

    #: The names under which the standard transport calls it, from Python 3.12 on.
    _write_sendmsg = _write_send = _write_ready


def _checked(data: Any) -> Any:
    """Return data in a form whose len() is the number of bytes."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    if isinstance(data, memoryview) and data.nbytes != len(data) and data.c_contiguous:
        return data.cast("B")
    return data
