"""sock_recv() etc.: the methods of the loop for sockets without a transport. See csrc/python/loop/sock_calls.c."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from fastmux import _binding

from .asyncio_private import StandardLoop
from .connect import Socket

if TYPE_CHECKING:
    from . import _native
else:
    _native = _binding.import_loop()

_ACCEPT: Final = socket.socket.accept


class SockCalls(_native.LoopCore, StandardLoop):
    """The methods in front of the standard ones, which get other classes of sockets, and all calls in debug mode."""

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        """Receive up to n bytes."""
        if sock.__class__ is not Socket or self._debug:
            return await super().sock_recv(sock, n)
        while (data := _native.receive(sock, n)) is None:
            await self._readable(sock.fileno())
        return data

    async def sock_recv_into(self, sock: Any, buf: Any) -> Any:
        """Receive into buf, and return the number of bytes."""
        if sock.__class__ is not Socket or self._debug:
            return await super().sock_recv_into(sock, buf)
        while (count := _native.attempt(sock.recv_into, buf)) is None:
            await self._readable(sock.fileno())
        return count

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> Any:
        """Receive a datagram of up to bufsize bytes, and return it with the address of its sender."""
        if sock.__class__ is not Socket or self._debug:
            return await super().sock_recvfrom(sock, bufsize)
        while (received := _native.attempt(sock.recvfrom, bufsize)) is None:
            await self._readable(sock.fileno())
        return received

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        """Send all of data."""
        if sock.__class__ is not Socket or self._debug:
            await super().sock_sendall(sock, data)
            return
        sent = _native.send(sock, data) or 0
        if data.__class__ is bytes and sent == len(data):
            return
        view = memoryview(data).cast("B")
        while sent < len(view):
            await self._writable(sock.fileno())
            sent += _native.send(sock, view[sent:]) or 0

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> Any:
        """Send a datagram to an address, and return the number of bytes."""
        if sock.__class__ is not Socket or self._debug:
            return await super().sock_sendto(sock, data, address)
        while (count := _native.attempt(sock.sendto, data, address)) is None:
            await self._writable(sock.fileno())
        return count

    async def sock_accept(self, sock: Any) -> Any:
        """Accept a connection, and return its socket and the address of its other end."""
        # A socket that is not blocking: the C function would hold the interpreter lock.
        plain = sock.__class__ is Socket and Socket.accept is _ACCEPT and not self._debug
        if not plain or sock.gettimeout() != 0:
            return await super().sock_accept(sock)
        while (accepted := _native.attempt(_native.accept, sock)) is None:
            await self._readable(sock.fileno())
        return accepted


for _name in ("sock_recvfrom", "sock_sendto"):
    if not hasattr(StandardLoop, _name):  # new in Python 3.11
        delattr(SockCalls, _name)
