"""Connections to literal addresses and to paths, without the standard loop's steps for names: no look-up, no list of
addresses, no coroutine for each step."""

from __future__ import annotations

import os
import socket
import sys
from asyncio import base_events
from errno import EAGAIN, EINPROGRESS, EINTR
from types import FunctionType, MethodDescriptorType
from typing import Any, Final

from .asyncio_private import StandardLoop

#: Programs may replace the name in the module.
Socket: Final = socket.socket
#: The connection goes on in the background.
_PENDING: Final = frozenset((EAGAIN, EINPROGRESS, EINTR))
#: Methods that the standard create_connection() calls. If a program has its own, they are called.
_STEPS: Final = ("_connect_sock", "_create_connection_transport", "_ensure_resolved", "sock_connect")
#: From Python 3.15 on, a connection has a context.
_SUPPORTED: Final = sys.version_info < (3, 15)


class ConnectingLoop(StandardLoop):
    """The part of the loop that connects."""

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        address = None if options else _literal(host, port)
        if address is None or not self._connects():
            return await super().create_connection(protocol_factory, host, port, **options)
        family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
        return await self._open(protocol_factory, family, socket.IPPROTO_TCP, address)

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        if path is None or options or not self._connects():
            return await super().create_unix_connection(protocol_factory, path, **options)
        return await self._open(protocol_factory, socket.AF_UNIX, 0, os.fspath(path))

    def _connects(self) -> bool:
        """Return whether the short way does the same as the standard one."""
        global _own_steps
        loop = type(self)
        steps = (loop._connect_sock, loop._create_connection_transport, loop._ensure_resolved, loop.sock_connect)
        if steps != _own_steps and all(map(_is_own, steps)):
            _own_steps = steps
        return (
            steps == _own_steps
            and vars(self).keys().isdisjoint(_STEPS)
            and socket.socket is Socket
            and vars(base_events)["socket"] is socket
            and not self._debug
            and _SUPPORTED
        )

    async def _open(self, protocol_factory: Any, family: int, proto: int, address: Any) -> Any:
        """Connect a new socket, and make the protocol and the transport."""
        sock = Socket(family, socket.SOCK_STREAM, proto)
        try:
            sock.setblocking(False)
            error = sock.connect_ex(address)
            # The kernel connects sockets of one machine at once, although it reports EINPROGRESS.
            peer = _peer(sock)
            if error in _PENDING and peer is None:
                fd, waiter = sock.fileno(), self.create_future()
                self._add_writer(fd, _stop_waiting, self, fd, waiter)
                try:
                    await waiter
                except BaseException:
                    if not self._closed:
                        self._remove_writer(fd)
                    raise
                if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, f"Connect call failed {address}")
                peer = _peer(sock)
            elif error and error not in _PENDING:
                raise OSError(error, os.strerror(error))
        except BaseException:
            sock.close()
            raise
        protocol = protocol_factory()
        made = self.create_future()
        transport = self._make_socket_transport(sock, protocol, made, extra={"peername": peer})
        try:
            await made
        except BaseException:
            transport.close()
            raise
        return transport, protocol


def _peer(sock: socket.socket) -> Any:
    """Return the peer's address, or None. SO_ERROR would take away the error of a socket that is not connected."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def _stop_waiting(loop: Any, fd: int, waiter: Any) -> None:
    loop._remove_writer(fd)
    if not waiter.done():
        waiter.set_result(None)


#: The methods of _STEPS that were found to be the loop's own.
_own_steps: tuple[Any, ...] = ()


def _literal(host: Any, port: Any) -> Any:
    """Return the address for connect() if the host is a literal one, else None."""
    if type(host) is str and type(port) is int and 0 <= port < 1 << 16:
        try:
            if ":" not in host:
                socket.inet_pton(socket.AF_INET, host)
                return host, port
            socket.inet_pton(socket.AF_INET6, host)
            return host, port, 0, 0
        except (OSError, ValueError):
            pass
    return None


def _is_own(method: Any) -> bool:
    """Return whether a method of the loop is the standard library's or this package's."""
    if type(method) is FunctionType:
        return method.__globals__["__name__"].partition(".")[0] in ("asyncio", "fastmux")
    return type(method) is MethodDescriptorType
