"""The private parts of asyncio that the event loop relies on.

At run time these are the standard classes. The declarations are for the type checker, and
tests/loop/test_asyncio_private.py looks for them in the Python that runs it.
"""

from __future__ import annotations

import asyncio
from asyncio import format_helpers, futures, selector_events, sslproto
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections import deque

    class StandardLoop(asyncio.SelectorEventLoop):
        _closed: bool
        _debug: bool
        _stopping: bool
        _ready: deque[Any]
        _scheduled: list[Any]
        _timer_cancelled_count: int
        _selector: Any

        def _accept_connection(self, protocol_factory: Any, sock: Any, *args: Any, **options: Any) -> None: ...
        def _add_callback(self, handle: asyncio.Handle) -> None: ...
        def _add_reader(self, fd: Any, callback: Any, *args: Any, **context: Any) -> Any: ...
        def _add_writer(self, fd: Any, callback: Any, *args: Any, **context: Any) -> Any: ...
        def _check_closed(self) -> None: ...
        async def _connect_sock(self, *args: Any) -> Any: ...
        async def _create_connection_transport(self, *args: Any, **options: Any) -> Any: ...
        async def _ensure_resolved(self, *args: Any, **options: Any) -> Any: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        def _make_datagram_transport(self, sock: Any, protocol: Any, *args: Any, **options: Any) -> Any: ...
        def _make_read_pipe_transport(self, pipe: Any, protocol: Any, *args: Any, **options: Any) -> Any: ...
        def _make_socket_transport(self, sock: Any, protocol: Any, *args: Any, **options: Any) -> Any: ...
        async def _make_subprocess_transport(self, protocol: Any, *args: Any, **options: Any) -> Any: ...
        def _make_write_pipe_transport(self, pipe: Any, protocol: Any, *args: Any, **options: Any) -> Any: ...
        def _remove_reader(self, fd: Any) -> bool: ...
        def _remove_writer(self, fd: Any) -> bool: ...
        def _run_once(self) -> None: ...
        def _start_serving(self, protocol_factory: Any, sock: Any, *args: Any, **options: Any) -> None: ...
        def _stop_serving(self, sock: Any) -> None: ...
        def _write_to_self(self) -> None: ...
        async def sock_recvfrom(self, sock: Any, bufsize: int) -> Any: ...
        async def sock_sendto(self, sock: Any, data: Any, address: Any) -> Any: ...

    class StandardDatagramTransport(asyncio.DatagramTransport):
        max_size: int

        def __init__(
            self, loop: Any, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
        ) -> None: ...

    class StandardTLS(asyncio.BufferedProtocol):
        max_size: int
        _app_protocol: Any
        _app_protocol_get_buffer: Any
        _app_protocol_buffer_updated: Any
        _app_protocol_is_buffer: bool
        _app_reading_paused: bool
        _app_transport: Any
        _app_transport_created: bool
        _app_writing_paused: bool
        _incoming: Any
        _incoming_high_water: int
        _loop: asyncio.AbstractEventLoop
        _outgoing: Any
        _outgoing_high_water: int
        _ssl_buffer: bytearray
        _ssl_buffer_view: memoryview
        _ssl_reading_paused: bool
        _ssl_writing_paused: bool
        _eof_received: bool
        _server_side: bool
        _sslobj: Any
        _state: Any
        _transport: Any
        _write_backlog: deque[Any]
        _write_buffer_size: int

        def _call_eof_received(self) -> None: ...
        def _control_ssl_reading(self) -> None: ...
        def _do_read(self) -> None: ...
        def _do_write(self) -> None: ...
        def _fatal_error(self, exc: BaseException, message: str = ...) -> None: ...
        def _get_app_transport(self) -> Any: ...
        def _get_read_buffer_size(self) -> int: ...
        def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None: ...
        def _on_shutdown_complete(self, shutdown_exc: BaseException | None) -> None: ...
        def _process_outgoing(self) -> None: ...
        def _set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
        def _set_state(self, new_state: Any) -> None: ...
        def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
        def _start_shutdown(self) -> None: ...
        def _write_appdata(self, list_of_data: Any) -> None: ...

    class StandardTLSTransport(asyncio.Transport):
        _ssl_protocol: Any

        def __init__(self, loop: Any, ssl_protocol: StandardTLS) -> None: ...

else:
    StandardLoop = asyncio.SelectorEventLoop
    StandardDatagramTransport = selector_events._SelectorDatagramTransport
    StandardTLS = sslproto.SSLProtocol
    StandardTLSTransport = sslproto._SSLProtocolTransport

#: The test lists which of its methods call each other.
StandardTransport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
#: Sets the result of a future that may have been cancelled.
set_result_unless_cancelled: Any = futures._set_result_unless_cancelled  # type: ignore[attr-defined]
#: Returns the name and the place of a function, for the message about an exception in a callback.
source_of: Any = format_helpers._format_callback_source
#: What a standard loop keeps in its __dict__. Some Pythons do not have all of it.
ATTRIBUTES: Final = (
    "_asyncgens",
    "_asyncgens_shutdown_called",
    "_clock_resolution",
    "_coroutine_origin_tracking_enabled",
    "_coroutine_origin_tracking_saved_depth",
    "_csock",
    "_current_handle",
    "_default_executor",
    "_exception_handler",
    "_executor_shutdown_called",
    "_internal_fds",
    "_old_agen_hooks",
    "_signal_handlers",
    "_ssock",
    "_thread_id",
    "_transports",
    "_unix_server_sockets",
    "_watcher",
    "slow_callback_duration",
)
