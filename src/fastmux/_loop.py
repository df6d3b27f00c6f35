"""The asyncio event loop: the standard selector loop, with its turn and its socket transports on the core.

A turn of the standard loop is: ask the selector, then run what was queued before, then what is ready, then the timers
that are due. Here what was queued runs first, then comes the wait, then the rest. The order of all callbacks is the
same, but nothing lies between reading from the sockets and handing out what was read, and a turn that leaves nothing
in the queue goes straight into the next wait: the standard loop would ask once more without waiting.

In debug mode the turns are the standard loop's. It also takes over if the selector is not one of ours.

Private parts of asyncio that this relies on are listed in tests/test_loop_hooks.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import sys
from asyncio import events, format_helpers, sslproto
from collections import deque
from collections.abc import Coroutine, Iterator
from contextvars import Context, copy_context
from heapq import heapify, heappop
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any, Final, TypeVar

from . import _core
from ._transports import SocketTransport
from .selectors import DefaultSelector

if _core.implementation == "c":
    from ._core import OTHERS, ROWS, stream_wait
    from ._fast import EpollSet, FastEpoll

_T = TypeVar("_T")

#: What one wait reads from all sockets together, and from one.
_ARENA: Final = 1024 * 1024
_CHUNK: Final = 256 * 1024
#: How many descriptors one wait reports.
_ROWS: Final = 1024
#: Fewer cancelled timers than this are left where they are.
_MANY: Final = 100
#: The longest wait in seconds.
_LONGEST: Final = 24 * 3600


class EventLoop(asyncio.SelectorEventLoop):
    """The standard library's event loop on this package's poller, with the same semantics."""

    _inbox: Any = None
    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool
    _closed: bool
    _debug: bool
    _timer_cancelled_count: int

    def __init__(self, selector: BaseSelector | None = None) -> None:
        if selector is None:
            selector = DefaultSelector()
        #: The transport that is read for, by descriptor.
        self._streams: list[Any] = []
        #: Whether a transport that stops reading now may already have been read for.
        self._in_wait = False
        if _core.implementation == "c" and isinstance(selector, FastEpoll) and isinstance(selector._selector, EpollSet):
            self._inbox = _core.Inbox(selector._mux, _ROWS, _ARENA, _CHUNK, _core.fail)
            self._streams += [None] * len(self._inbox.flags)
        super().__init__(selector)

    def close(self) -> None:
        super().close()
        self._streams.clear()
        self._inbox = None

    # Transports

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol: Any = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        SocketTransport(self, rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    def _read_along(self, fd: int, transport: Any) -> None:
        """Have the wait read from fd, for a transport whose reader has just been added."""
        if self._inbox is None:
            return
        if fd >= len(self._streams):
            self._inbox.cover(fd)
            self._streams += [None] * (len(self._inbox.flags) - len(self._streams))
        self._streams[fd] = transport
        self._inbox.flags[fd] = 1

    def _remove_reader(self, fd: Any) -> bool:
        """Stop watching fd for input; every transport that pauses, ends or closes comes by here."""
        if self._inbox is not None and fd.__class__ is int and self._inbox.flags[fd : fd + 1] == b"\1":
            self._inbox.flags[fd] = 0
            self._streams[fd]._stopped()
            if not self._in_wait:
                self._streams[fd] = None
        removed: bool = super()._remove_reader(fd)
        return removed

    # Wake-ups

    def _write_to_self(self) -> None:
        """End the wait, from any thread or a signal handler."""
        wakeup = getattr(self._selector, "wakeup", None)
        if wakeup is None:
            super()._write_to_self()
        else:
            with contextlib.suppress(ValueError):  # closed meanwhile
                wakeup()

    # The turn

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Call callback(*args) in the next turn, in this context or a copy of the present one."""
        if self._closed or self._debug:
            return super().call_soon(callback, *args, context=context)
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Run what was queued, wait, run what is ready, then the timers that are due."""
        inbox = self._inbox
        if inbox is None or self._debug:
            super()._run_once()
            return
        ready = self._ready
        if ready:
            _run(ready)
        if ready or self._stopping:
            timeout = 0
        elif self._scheduled:
            timeout = self._time_left()
        else:
            timeout = -1
        self._in_wait = True
        n = stream_wait(inbox.handle, timeout)
        if n > 0:
            others, n = divmod(n, OTHERS)
            streams = self._streams
            rows = zip([streams[fd] for fd in inbox.fds[:n]], inbox.lengths[:n])
            self._in_wait = False
            handles = self._other_handles(others) if others else None
            if self._scheduled:
                handles = self._add_due(handles)
            try:
                if n:
                    self._hand_out(rows)
                if handles:
                    _run(handles)
            except BaseException:
                if handles:
                    ready.extendleft(reversed(handles))
                raise
        else:
            self._in_wait = False
            if n < 0 and n != -errno.EINTR:
                _core.fail(n)
            if self._scheduled and (handles := self._add_due(None)):
                try:
                    _run(handles)
                except BaseException:
                    ready.extendleft(reversed(handles))
                    raise

    def _hand_out(self, rows: Iterator[tuple[Any, int]]) -> None:
        """Give the transports what was read for them."""
        arena = self._inbox.arena
        start = 0
        try:
            for transport, length in rows:
                if length <= 0:
                    transport._receive_end(length)
                    continue
                end = start + length
                data = arena[start:end]
                start = end
                if transport._plain:
                    run = transport._run_in
                    try:
                        run(transport._protocol.data_received, data)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as exc:
                        run(transport._fatal_error, exc, "Fatal error: protocol.data_received() call failed.")
                else:
                    transport._receive(data)
        except BaseException:
            # This ends the turn. What was read for the others must not be lost.
            for transport, length in rows:
                if length > 0:
                    transport._keep(arena[start : start + length])
                    start += length
                elif length < 0:
                    transport._keep(_core.os_error(length))
            raise

    def _other_handles(self, count: int) -> deque[Any]:
        """The handles of what is ready and was not read from."""
        handles: deque[Any] = deque()
        for key, found in self._selector._results(self._inbox.ready, ROWS + count):
            reader, writer = key.data
            if found & EVENT_READ and reader is not None:
                if reader._cancelled:
                    self._remove_reader(key.fileobj)
                else:
                    handles.append(reader)
            if found & EVENT_WRITE and writer is not None:
                if writer._cancelled:
                    self._remove_writer(key.fileobj)
                else:
                    handles.append(writer)
        return handles

    # Timers

    def _time_left(self) -> int:
        """How many nanoseconds remain until a timer is due; -1 if there is none."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > _MANY and 2 * self._timer_cancelled_count > len(scheduled):
            for timer in scheduled:
                if timer._cancelled:
                    timer._scheduled = False
            self._scheduled = scheduled = [timer for timer in scheduled if not timer._cancelled]
            heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heappop(scheduled)._scheduled = False
        if not scheduled:
            return -1
        return math.ceil(min(max(scheduled[0]._when - self.time(), 0), _LONGEST) * 1e9)

    def _add_due(self, handles: deque[Any] | None) -> deque[Any] | None:
        """Add the timers that are due."""
        now = self.time()
        scheduled = self._scheduled
        while scheduled and scheduled[0]._when <= now:
            timer = heappop(scheduled)
            timer._scheduled = False
            if handles is None:
                handles = deque()
            handles.append(timer)
        return handles


class Handle(asyncio.Handle):
    """The standard handle, made and run with less ado; the loop makes none in debug mode."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def _failed(self, exc: BaseException) -> None:
        """What the standard handle does with an exception."""
        source = format_helpers._format_callback_source(self._callback, self._args)
        self._loop.call_exception_handler(
            {"message": f"Exception in callback {source}", "exception": exc, "handle": self}
        )


def _run(handles: deque[Any]) -> None:
    """Run the handles that are in there now, and take them out one by one."""
    for _ in range(len(handles)):
        handle = handles.popleft()
        if handle._cancelled:
            continue
        if handle.__class__ is not Handle:
            handle._run()
            continue
        try:
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            handle._failed(exc)


def new_event_loop() -> EventLoop:
    """Return a new event loop; the loop_factory for ``asyncio.run()`` and ``asyncio.Runner``."""
    return EventLoop()


if sys.version_info >= (3, 11):

    def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
        """Run a coroutine on a new EventLoop, as ``asyncio.run()`` does on the standard one."""
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)
