"""The event loop without the extension: the standard selector loop, with smaller reads."""

from __future__ import annotations

from typing import Any, Final

from .asyncio_private import StandardLoop

#: malloc() makes a mapping for each piece above 128 KiB, as the 256 KiB of the standard transport.
_PIECE: Final = 64 * 1024


class PortableLoop(StandardLoop):
    """The standard loop."""

    _uses_core = False

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        transport: Any = super()._make_socket_transport(*args, **options)
        transport.max_size = min(transport.max_size, _PIECE)
        return transport

    def _make_read_pipe_transport(self, *args: Any, **options: Any) -> Any:
        transport: Any = super()._make_read_pipe_transport(*args, **options)
        transport.max_size = min(transport.max_size, _PIECE)
        return transport
