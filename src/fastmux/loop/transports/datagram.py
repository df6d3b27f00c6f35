"""The transport of a datagram socket: the standard one, with csrc/python/loop/datagram_transport.c in front."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from fastmux import _binding
from fastmux.loop.asyncio_private import StandardDatagramTransport

if TYPE_CHECKING:
    from fastmux.loop import _native
else:
    _native = _binding.import_loop()

#: Families whose addresses the C code converts.
FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class _DatagramTransport(_native.DatagramCore, StandardDatagramTransport):
    """A datagram socket of one of FAMILIES."""

    __slots__ = ()

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        if (size := StandardDatagramTransport.max_size) != self.max_size:
            self.max_size = size
        self._family = sock.family
        super().__init__(loop, sock, protocol, address, waiter, extra)
