"""The turn of the event loop: what one round of run_forever() does.

The standard loop asks the selector, then runs what was queued before, then what is ready, then the timers that are due.
Here what was queued runs first, then comes the wait, then the rest. The order of callbacks is the same, with one
exception: if a callback makes a descriptor ready and queues another callback, here that one runs behind the reader.
In return nothing lies between reading from the sockets and handing out what was read, and a turn that leaves nothing
in the queue goes straight into its wait, where the standard loop would ask once more without waiting.

In debug mode, and with a selector that is not one of ours, the turns are the standard loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from heapq import heapify, heappop
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any, Final

from . import _core
from ._private import StandardHandle, StandardLoop, source_of

if _core.implementation == "c":
    from ._core import OTHERS, ROWS, Inbox, pages, stream_wait
    from ._fast_epoll import EpollSet, FastEpoll

#: The most that one wait reads from a socket, and how much is enough for it to read no more from others.
_CHUNK: Final = 512 * 1024
_ENOUGH: Final = 64 * 1024
#: How many descriptors one wait reports.
_ROWS: Final = 128
#: Fewer cancelled timers than this are left where they are.
_MANY: Final = 100
#: The longest wait in seconds.
_LONGEST: Final = 24 * 3600

#: What a selector is told, so that it does not count on every key being there still.
_SOMETHING_REMOVED: Final = -1

_new: Final = object.__new__


class Turn(StandardLoop):
    """The standard loop, with turns of its own."""

    #: Where the wait leaves what it has read; None if the turns are the standard loop's.
    _inbox: Any = None

    def __init__(self, selector: BaseSelector) -> None:
        #: The transport that is read for, by descriptor.
        self._streams: list[Any] = []
        #: Whether a transport that stops reading now may already have been read for.
        self._in_wait = False
        if _core.implementation == "c" and isinstance(selector, FastEpoll) and isinstance(selector._selector, EpollSet):
            self._inbox = Inbox(selector._mux, _ROWS, pages(_ENOUGH + _CHUNK), _ENOUGH, _core.fail)
            self._streams += [None] * len(self._inbox.flags)
        self._fast = self._inbox is not None
        super().__init__(selector)

    def close(self) -> None:
        super().close()
        self._streams.clear()
        self._inbox = None

    # Who is read for

    def _read_along(self, fd: int, transport: Any) -> None:
        """Have the wait read from fd, for a transport whose reader has just been added."""
        if self._inbox is None:
            return
        if fd >= len(self._streams):
            self._inbox.cover(fd)
            self._streams += [None] * (len(self._inbox.flags) - len(self._streams))
        self._streams[fd] = transport
        self._inbox.flags[fd] = 1

    def _stop_reading_along(self, fd: Any) -> None:
        """Have the wait read no more from fd, if it does."""
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
            with contextlib.suppress(ValueError):  # closed meanwhile
                wakeup()

    # The turn

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call ``callback(*args)`` in the next turn, in this context or a copy of the present one."""
        if self._closed or self._debug:
            standard: Any = super().call_soon(callback, *args, context=context)
            if standard._source_traceback:
                del standard._source_traceback[-1]  # this function
            return standard  # type: ignore[no-any-return]
        # The constructor would be a Python function more, and this is called several times per request.
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
            others = 0
            if n >= OTHERS:
                others, n = divmod(n, OTHERS)
            streams = self._streams
            rows: Iterator[tuple[Any, int]]
            if n == 1:  # which needs no views
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
        start = end = 0
        try:
            for transport, length in rows:
                if length <= 0:
                    transport._receive_end(length)
                    continue
                start = end
                end += length
                run = transport._run_plain
                # No name for the data: it would keep the memory until after the next piece is there, and freeing two
                # large ones at a time has malloc() return them to the kernel, and fetch them again.
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
            # This ends the turn. What was read for the others must not be lost.
            for transport, length in rows:
                if length > 0:
                    transport._keep(arena[end : end + length])
                    end += length
                elif length < 0:
                    transport._keep(_core.os_error(length))
            raise

    def _other_handles(self, count: int) -> deque[Any]:
        """The handles of what is ready and was not read from."""
        handles: deque[Any] = deque()
        for key, found in self._selector._results(self._inbox.ready, ROWS + count, _SOMETHING_REMOVED):
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
        left: float = min(max(scheduled[0]._when - self.time(), 0), _LONGEST)
        return math.ceil(left * 1e9)

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


class Handle(StandardHandle):
    """The standard handle, made by call_soon() and run with less ado; not in debug mode."""

    __slots__ = ()

    def _failed(self, exc: BaseException) -> None:
        """What the standard handle does with an exception."""
        source = source_of(self._callback, self._args)
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
