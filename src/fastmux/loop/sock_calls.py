"""sock_recv() and sock_recv_into() of the event loop.

The standard ones try to receive, and if there is nothing, register the socket, wait, and unregister it: two system
calls and some ten objects per message. Here the socket stays registered, with a _Receiver that holds the waiting
future. If data arrives without such a future, the socket is unregistered.

A program may close a socket without a call of the loop, and another file may take its number. So a _Receiver serves
only the socket object for which it was made, and every other use of the descriptor removes it first.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable
from typing import Any

from .asyncio_private import StandardLoop


class _Receiver:
    """A socket that is registered for input, and the future that waits for it."""

    __slots__ = ("_argument", "_read", "_size", "drained", "fd", "loop", "sock", "waiter")

    def __init__(self, loop: SocketCalls, sock: socket.socket, fd: int) -> None:
        self.loop = loop
        self.fd = fd
        self.sock = weakref.ref(sock)
        #: Whether the last call has emptied the socket. The next one then waits without trying: this turn's wait finds
        #: new data.
        self.drained = False
        self.waiter: asyncio.Future[Any] | None = None

    def begin(self, read: Callable[[Any], Any], argument: Any, size: int) -> asyncio.Future[Any]:
        """Return a future for the result of read(argument) once there is data: at most size bytes."""
        self._read, self._argument, self._size = read, argument, size
        self.waiter = waiter = self.loop.create_future()
        return waiter

    def end(self, waiter: asyncio.Future[Any]) -> None:
        """Release a future that is done or cancelled."""
        if self.waiter is waiter:
            # Keep neither the buffer nor the socket alive.
            self.waiter = self._read = self._argument = None  # type: ignore[assignment]

    def ready(self) -> None:
        """Handle readable input."""
        waiter = self.waiter
        if waiter is None:
            self.loop._drop_receiver(self.fd)
        elif not waiter.done():
            try:
                result = self._read(self._argument)
            except (BlockingIOError, InterruptedError):
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                waiter.set_exception(exc)
            else:
                length = result if result.__class__ is int else len(result)
                self.drained = 0 < length < self._size
                waiter.set_result(result)


class SocketCalls(StandardLoop):
    """The part of the loop with _Receivers."""

    #: Whether the turns are fastmux's.
    _fast: bool

    def __init__(self, selector: Any) -> None:
        self._receivers: dict[int, _Receiver] = {}
        super().__init__(selector)

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        if not self._fast or self._debug or sock.__class__ is not socket.socket:
            return await super().sock_recv(sock, nbytes)
        receiver = self._receivers.get(sock.fileno())
        if receiver is None or receiver.sock() is not sock or not receiver.drained or nbytes <= 0:
            try:
                return sock.recv(nbytes)
            except (BlockingIOError, InterruptedError):
                receiver = self._receiver(sock)
        waiter = receiver.begin(sock.recv, nbytes, nbytes)
        try:
            data: bytes = await waiter
            return data
        finally:
            receiver.end(waiter)

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        if not self._fast or self._debug or sock.__class__ is not socket.socket:
            return await super().sock_recv_into(sock, buf)
        try:
            return sock.recv_into(buf)
        except (BlockingIOError, InterruptedError):
            receiver = self._receiver(sock)
        waiter = receiver.begin(sock.recv_into, buf, memoryview(buf).nbytes)
        try:
            length: int = await waiter
            return length
        finally:
            receiver.end(waiter)

    def _receiver(self, sock: socket.socket) -> _Receiver:
        """Return the _Receiver of a socket, made if it is missing."""
        fd = sock.fileno()
        receiver = self._receivers.get(fd)
        if receiver is None or receiver.sock() is not sock:
            self._ensure_fd_no_transport(fd)
            receiver = _Receiver(self, sock, fd)
            self._add_reader(fd, receiver.ready)
            self._receivers[fd] = receiver
        return receiver

    def _drop_receiver(self, fd: int) -> bool:
        """Remove the _Receiver of fd, if there is one; return whether a future was waiting."""
        receiver = self._receivers.pop(fd, None)
        if receiver is None:
            return False
        super()._remove_reader(fd)
        return receiver.waiter is not None

    # Hooks

    def _add_reader(self, fd: Any, callback: Any, *args: Any, **context: Any) -> Any:
        if self._receivers:
            self._drop_receiver(descriptor_in(fd))
        return super()._add_reader(fd, callback, *args, **context)

    def _add_writer(self, fd: Any, callback: Any, *args: Any, **context: Any) -> Any:
        if self._receivers and (receiver := self._receivers.get(descriptor_in(fd))) is not None:
            sock = receiver.sock()
            if sock is None or sock.fileno() != receiver.fd:
                self._drop_receiver(receiver.fd)  # of a socket that was closed
        return super()._add_writer(fd, callback, *args, **context)

    def _remove_reader(self, fd: Any) -> bool:
        waiting = bool(self._receivers) and self._drop_receiver(descriptor_in(fd))
        return super()._remove_reader(fd) or waiting


def descriptor_in(fileobj: Any) -> int:
    """Return the descriptor of a file object, or -1 if it has none or is closed."""
    if fileobj.__class__ is int:
        fd: int = fileobj
        return fd
    try:
        return int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        return -1
