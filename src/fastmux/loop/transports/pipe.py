"""The transports of pipes: what is not in csrc/python/loop/pipe_transport.c.

They have the attributes of the standard transports, and take over those of their methods that are called rarely.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from asyncio import constants
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fastmux import _binding
from fastmux.loop.asyncio_private import set_result_unless_cancelled

from .asyncio_private import StandardReadPipe, StandardWritePipe

if TYPE_CHECKING:
    from fastmux.loop import _native
else:
    _native = _binding.import_loop()

_logger = logging.getLogger("asyncio")
#: System calls of the standard transports that the C code makes itself.
_SYSTEM_CALLS: Final = (os.read, os.write)


def are_plain() -> bool:
    """Whether os.read() and os.write() are those of the standard library: a program may replace them."""
    return (os.read, os.write) == _SYSTEM_CALLS


class _ReadPipeTransport(_native.ReadPipeCore):
    """The end of a pipe that is read."""

    __slots__ = ("__dict__", "__weakref__")

    def __init__(
        self,
        loop: Any,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._extra = extra = {} if extra is None else extra
        extra["pipe"] = pipe
        self._loop = loop
        self._fileno = fd = pipe.fileno()
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError("Pipe transport is for pipes/sockets only.")
        if (size := StandardReadPipe.max_size) != self.max_size:
            self.max_size = size
        self._pipe = pipe
        self._protocol = protocol
        os.set_blocking(fd, False)
        # Input, and the future of the one who waits for the connection, come after connection_made().
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._add_reader, fd, self._read_ready)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, None)

    # Methods of the standard transport that use only the attributes that this one has, too.

    __del__ = StandardReadPipe.__del__
    __repr__ = StandardReadPipe.__repr__
    _call_connection_lost = StandardReadPipe._call_connection_lost
    _close = StandardReadPipe._close
    _fatal_error = StandardReadPipe._fatal_error
    close = StandardReadPipe.close
    get_protocol = StandardReadPipe.get_protocol
    is_closing = StandardReadPipe.is_closing
    pause_reading = StandardReadPipe.pause_reading
    resume_reading = StandardReadPipe.resume_reading
    set_protocol = StandardReadPipe.set_protocol

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def _add_reader(self, fd: int, callback: Any) -> None:
        if self.is_reading():
            self._loop._add_reader(fd, callback)

    def _at_eof(self) -> None:
        loop = self._loop
        if loop.get_debug():
            _logger.info("%r was closed by peer", self)
        self._closing = True
        loop._remove_reader(self._fileno)
        loop.call_soon(self._protocol.eof_received)
        loop.call_soon(self._call_connection_lost, None)


class _WritePipeTransport(_native.WritePipeCore):
    """The end of a pipe that is written to."""

    __slots__ = ("__dict__", "__weakref__")

    def __init__(
        self,
        loop: Any,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._extra = extra = {} if extra is None else extra
        extra["pipe"] = pipe
        self._loop = loop
        self._set_write_buffer_limits()
        self._buffer = bytearray()
        self._fileno = fd = pipe.fileno()
        mode = os.fstat(fd).st_mode
        is_fifo, is_socket = stat.S_ISFIFO(mode), stat.S_ISSOCK(mode)
        if not (is_fifo or is_socket or stat.S_ISCHR(mode)):
            raise ValueError("Pipe transport is only for pipes, sockets and character devices")
        self._pipe = pipe
        self._protocol = protocol
        os.set_blocking(fd, False)
        loop.call_soon(protocol.connection_made, self)
        # A pipe becomes readable when its other end is closed.
        if is_socket or (is_fifo and not sys.platform.startswith("aix")):
            loop.call_soon(self._watch_other_end)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, None)

    # Methods of the standard transport that use only the attributes that this one has, too.

    __del__ = StandardWritePipe.__del__
    __repr__ = StandardWritePipe.__repr__
    _call_connection_lost = StandardWritePipe._call_connection_lost
    _close = StandardWritePipe._close
    _fatal_error = StandardWritePipe._fatal_error
    _read_ready = StandardWritePipe._read_ready
    abort = StandardWritePipe.abort
    can_write_eof = StandardWritePipe.can_write_eof
    close = StandardWritePipe.close
    get_protocol = StandardWritePipe.get_protocol
    get_write_buffer_size = StandardWritePipe.get_write_buffer_size
    is_closing = StandardWritePipe.is_closing
    set_protocol = StandardWritePipe.set_protocol
    write_eof = StandardWritePipe.write_eof

    def _watch_other_end(self) -> None:
        if not self._closing:  # by connection_made()
            self._loop._add_reader(self._fileno, self._read_ready)

    def _lost_write(self) -> None:
        """Count a write after the pipe was closed."""
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            _logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
        self._conn_lost += 1

    def _write_ready(self) -> None:
        """Write from the buffer; called when the pipe is writable.

        Also if the buffer is empty: an exception of a signal handler may have kept the last call from what follows.
        """
        buffer = self._buffer
        try:
            self._write_buffer()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            buffer.clear()
            self._conn_lost += 1
            with suppress(OSError):  # by now, the number may be another file's
                self._loop._remove_writer(self._fileno)  # _close() does not, because the buffer is empty
            self._fatal_error(exc, "Fatal write error on pipe transport")
            return
        if not buffer:
            self._loop._remove_writer(self._fileno)
            self._maybe_resume_protocol()  # which may write, or close the transport
            if self._closing:
                self._loop._remove_reader(self._fileno)
                self._call_connection_lost(None)
