"""The turn of the event loop: one round of run_forever().

The standard loop polls the selector, then runs the callbacks that were queued before, then those of ready descriptors,
then due timers. Here the queued callbacks run first, then comes the wait, then the rest. The order of callbacks is the
same, with one exception: if a callback makes a descriptor ready and queues another callback, that one runs after the
reader here. In return nothing runs between receiving data and delivering it, and a turn that leaves the queue empty
goes straight into its wait, where the standard loop polls once more without waiting.

In debug mode, and with a selector that is not fastmux's EpollSelector, the turns are the standard loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from heapq import heapify, heappop
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any, Final

from fastmux import _binding

from .asyncio_private import StandardHandle, StandardLoop, source_of

if _binding.implementation == "c":
    from fastmux._binding import OTHERS, selector_rows, stream_wait

#: The most bytes that one wait receives from a socket, and the total above which it receives from no further one.
_CHUNK: Final = 512 * 1024
_ENOUGH: Final = 64 * 1024
#: The most descriptors that one wait reports.
_ROWS: Final = 128
#: Up to this many cancelled timers stay in the heap.
_MOST_CANCELLED: Final = 100
#: The longest wait in seconds, as of the standard loop.
_MAXIMUM_TIMEOUT: Final = 24 * 3600

_new: Final = object.__new__


class _Inbox:
    """Memory for fmux_stream_wait: data arrives in ``arena``, with a row in ``fds`` and ``lengths`` for each socket.

    ``flags[fd] = 1`` makes the wait receive from a socket; cover(fd) makes sure that the flag exists.
    """

    __slots__ = ("arena", "fds", "flags", "handle", "lengths", "ready")

    def __init__(self, selector: Any) -> None:
        ffi = _binding.ffi
        self.ready = _binding.open_ready(selector._mux, _ROWS, True, selector._context, _binding.fail)[0]
        # From the kernel, resident only where it is used. Its slices are bytes.
        self.arena = mmap.mmap(-1, _ENOUGH + _CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        columns = memoryview(bytearray(12 * _ROWS)).cast("i")
        self.fds, self.lengths = columns[:_ROWS], columns[_ROWS : 2 * _ROWS]
        self.flags = bytearray(256)
        # cffi does not keep the memory behind these pointers alive; the attributes do.
        self.handle = ffi.new("fmux_stream_t *")
        self.handle.ready = self.ready
        self.handle.arena = ffi.from_buffer(self.arena)
        self.handle.enough = _ENOUGH
        self.handle.chunk = _CHUNK
        self.handle.fds = ffi.from_buffer("int32_t[]", self.fds)
        self.handle.lengths = ffi.from_buffer("int32_t[]", self.lengths)
        self.handle.waiting = ffi.from_buffer("int32_t[]", columns[2 * _ROWS :])
        self.cover(255)

    def cover(self, fd: int) -> None:
        """Extend the flags to fd."""
        self.flags = self.flags.ljust(2 * fd, b"\0")
        self.handle.flags = _binding.ffi.from_buffer("uint8_t[]", self.flags)
        self.handle.flags_length = len(self.flags)


class Turn(StandardLoop):
    """The standard loop with another turn."""

    #: Where the wait leaves received data; None if the turns are the standard loop's.
    _inbox: Any = None

    def __init__(self, selector: BaseSelector) -> None:
        #: The transport whose data the wait receives, by descriptor.
        self._streams: list[Any] = []
        #: Whether the wait may already have received data for a transport that stops reading now.
        self._in_wait = False
        if hasattr(selector, "wakeup") and getattr(selector, "_mux", None) is not None:  # fastmux's EpollSelector
            self._inbox = _Inbox(selector)
            self._streams += [None] * len(self._inbox.flags)
        self._fast = self._inbox is not None
        super().__init__(selector)

    def close(self) -> None:
        super().close()
        self._streams.clear()
        self._inbox = None

    # Receiving in the wait

    def _read_along(self, fd: int, transport: Any) -> None:
        """Enable receiving in the wait for fd, for a transport that has just added its reader."""
        if self._inbox is None:
            return
        if fd >= len(self._streams):
            self._inbox.cover(fd)
            self._streams += [None] * (len(self._inbox.flags) - len(self._streams))
        self._streams[fd] = transport
        self._inbox.flags[fd] = 1

    def _stop_reading_along(self, fd: Any) -> None:
        """Disable receiving in the wait for fd."""
        if self._inbox is not None and fd.__class__ is int and self._inbox.flags[fd : fd + 1] == b"\1":
            self._inbox.flags[fd] = 0
            self._streams[fd]._stopped()
            if not self._in_wait:
                self._streams[fd] = None

    # Wake-ups

    def _write_to_self(self) -> None:
        """End the wait, from any thread or a signal handler."""
        wakeup = getattr(self._selector, "wakeup", None)
        if wakeup is None:
            super()._write_to_self()
        else:
            with contextlib.suppress(ValueError):  # closed
                wakeup()

    # The turn

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call ``callback(*args)`` in the next turn, in this context or a copy of the current one."""
        if self._closed or self._debug:
            standard: Any = super().call_soon(callback, *args, context=context)
            if standard._source_traceback:
                del standard._source_traceback[-1]  # this function
            return standard  # type: ignore[no-any-return]
        # Without the constructor, which is a Python function: each request makes several handles.
        handle: Handle = _new(Handle)
        handle._context = copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = None
        handle._source_traceback = None
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Run the queued callbacks, wait, run the callbacks of ready descriptors, then those of due timers."""
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
            others = 0
            if n >= OTHERS:
                others, n = divmod(n, OTHERS)
            streams = self._streams
            rows: Iterator[tuple[Any, int]]
            if n == 1:
                rows = iter(((streams[inbox.fds[0]], inbox.lengths[0]),))
            else:
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
                _binding.fail(n)
            if self._scheduled and (handles := self._add_due(None)):
                try:
                    _run(handles)
                except BaseException:
                    ready.extendleft(reversed(handles))
                    raise

    def _hand_out(self, rows: Iterator[tuple[Any, int]]) -> None:
        """Deliver the received data to the transports."""
        arena = self._inbox.arena
        start = end = 0
        try:
            for transport, length in rows:
                if length <= 0:
                    transport._receive_end(length)
                    continue
                start = end
                end += length
                run = transport._run_plain
                # No variable holds the data: it would live until the next piece exists, and freeing two large pieces
                # at a time makes malloc() return the memory to the kernel.
                if run is not None:
                    try:
                        run(transport._protocol.data_received, arena[start:end])
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as exc:
                        run(transport._fatal_error, exc, "Fatal error: protocol.data_received() call failed.")
                elif (run := transport._run_buffered) is not None:
                    run(transport._fill_all, arena[start:end])
                else:
                    transport._receive(arena[start:end])
        except BaseException:
            # This ends the turn. The data of the other transports must not be lost.
            for transport, length in rows:
                if length > 0:
                    transport._keep(arena[end : end + length])
                    end += length
                elif length < 0:
                    transport._keep(_binding.os_error(length))
            raise

    def _other_handles(self, count: int) -> deque[Any]:
        """Return the handles of the ready descriptors that the wait did not receive from."""
        handles: deque[Any] = deque()
        for key, found in selector_rows(self._inbox.ready, count):
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
        """Return the nanoseconds until a timer is due; -1 if there is none."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > _MOST_CANCELLED and 2 * self._timer_cancelled_count > len(scheduled):
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
        left: float = min(max(scheduled[0]._when - self.time(), 0), _MAXIMUM_TIMEOUT)
        return math.ceil(left * 1e9)

    def _add_due(self, handles: deque[Any] | None) -> deque[Any] | None:
        """Add the handles of due timers."""
        now = self.time()
        scheduled = self._scheduled
        while scheduled and scheduled[0]._when <= now:
            timer = heappop(scheduled)
            timer._scheduled = False
            if handles is None:
                handles = deque()
            handles.append(timer)
        return handles


class Handle(StandardHandle):
    """The standard handle, made by call_soon() and run by _run() without further Python calls; not in debug mode."""

    __slots__ = ()

    def _failed(self, exc: BaseException) -> None:
        """Report an exception as the standard handle does."""
        source = source_of(self._callback, self._args)
        self._loop.call_exception_handler(
            {"message": f"Exception in callback {source}", "exception": exc, "handle": self}
        )


def _run(handles: deque[Any]) -> None:
    """Remove and run the handles that are queued now."""
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
