"""The private parts of asyncio that the event loop relies on.

At run time these are the standard classes. The declarations are for the type checker, and
tests/loop/test_asyncio_private.py looks for them in the Python that runs it.
"""

from __future__ import annotations

import asyncio
from asyncio import format_helpers, futures, selector_events, sslproto
from typing import TYPE_CHECKING, Any

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
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        def _make_socket_transport(self, sock: Any, protocol: Any, *args: Any, **options: Any) -> Any: ...
        def _remove_reader(self, fd: Any) -> bool: ...
        def _remove_writer(self, fd: Any) -> bool: ...
        def _run_once(self) -> None: ...
        def _start_serving(self, protocol_factory: Any, sock: Any, *args: Any, **options: Any) -> None: ...
        def _stop_serving(self, sock: Any) -> None: ...
        def _write_to_self(self) -> None: ...

else:
    StandardLoop = asyncio.SelectorEventLoop

#: The test lists which of its methods call each other.
StandardTransport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
#: Sets the result of a future that may have been cancelled.
set_result_unless_cancelled: Any = futures._set_result_unless_cancelled  # type: ignore[attr-defined]
#: Returns the name and the place of a function, for the message about an exception in a callback.
source_of: Any = format_helpers._format_callback_source
#: TLS: what tls.py does not replace. The test lists the attributes that it uses.
StandardTLS: Any = sslproto.SSLProtocol
StandardTLSTransport: Any = sslproto._SSLProtocolTransport  # type: ignore[attr-defined]
