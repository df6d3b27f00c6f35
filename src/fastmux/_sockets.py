"""sock_recv() and sock_recv_into() of the event loop.

The standard ones try, and if there is nothing, put the socket into the selector, wait, and take it out again: two
system calls and some ten objects for each message. Here the socket stays in, with a Receiver that knows who is waiting.
When something arrives and nobody is, it is taken out.

A socket may be closed without the loop being told, and its number be another's next. So a Receiver serves only the
socket object that it was made for, and whoever else has to do with the descriptor removes it first.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable
from typing import Any

from ._private import StandardLoop


class Receiver:
    """A socket that is watched for input, and the one future that waits for it."""

    __slots__ = ("_argument", "_read", "_size", "drained", "fd", "loop", "sock", "waiter")

    def __init__(self, loop: SocketCalls, sock: socket.socket, fd: int) -> None:
        self.loop = loop
        self.fd = fd
        self.sock = weakref.ref(sock)
        #: Whether the last call has read all that there was. The next one need not try, then: if more has come
        #: meanwhile, this turn's wait finds it.
        self.drained = False
        self.waiter: asyncio.Future[Any] | None = None

    def begin(self, read: Callable[[Any], Any], argument: Any, size: int) -> asyncio.Future[Any]:
        """Return a future of what read(argument) returns when there is something to read: at most size bytes."""
        self._read, self._argument, self._size = read, argument, size
        self.waiter = waiter = self.loop.create_future()
        return waiter

    def end(self, waiter: asyncio.Future[Any]) -> None:
        """The future is done, or given up."""
        if self.waiter is waiter:
            # Neither the buffer nor the socket is to be kept alive.
            self.waiter = self._read = self._argument = None  # type: ignore[assignment]

    def ready(self) -> None:
        """There is something to read."""
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
    """The part of the loop that has Receivers."""

    #: Whether the turns are ours.
    _fast: bool

    def __init__(self, selector: Any) -> None:
        self._receivers: dict[int, Receiver] = {}
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

    def _receiver(self, sock: socket.socket) -> Receiver:
        """The Receiver of a socket; a new one unless it has one."""
        fd = sock.fileno()
        receiver = self._receivers.get(fd)
        if receiver is None or receiver.sock() is not sock:
            self._ensure_fd_no_transport(fd)
            receiver = Receiver(self, sock, fd)
            self._add_reader(fd, receiver.ready)
            self._receivers[fd] = receiver
        return receiver

    def _drop_receiver(self, fd: int) -> bool:
        """Take a Receiver out, if there is one; return whether somebody was waiting for it."""
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
    """The descriptor of a file object, or -1 if it has none (any more)."""
    if fileobj.__class__ is int:
        fd: int = fileobj
        return fd
    try:
        return int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        return -1
