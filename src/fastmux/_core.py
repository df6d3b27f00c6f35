"""The only module that touches the compiled extension: its functions by name, its errors as exceptions, and the
ready arrays.

Functions are bound to module-level names because looking up an attribute of ``lib`` for every call costs as much
as a third of the call. Calls with one argument are the cheapest: cffi passes them without a tuple.
"""

from __future__ import annotations

import errno
import mmap  # not when it is first needed: there may be no descriptor left to import it with
import os
import struct
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ._checks import closed, refuse_file

try:
    if os.environ.get("FASTMUX_PURE", "0") not in ("", "0"):
        raise ImportError("FASTMUX_PURE is set")
    from . import _native
except ImportError:
    #: "c" if the extension is in use, "python" if everything runs on the standard library.
    implementation = "python"
    lib: Any = None
    ffi: Any = None
else:
    implementation = "c"
    lib = _native.lib
    ffi = _native.ffi

#: So many descriptors poll and select may be asked about twice, where that mostly saves more than it costs.
ASK_TWICE: Final[int] = lib.FMUX_FEW if implementation == "c" else 64

if implementation == "c":
    #: What a wait on a shared array returns: an index below this, or this and the number of rows.
    ROWS: Final[int] = lib.FMUX_ROWS
    #: Descriptors from here on have no index.
    FDS: Final[int] = lib.FMUX_UNKNOWN // 4
    EPOLL: Final[int] = lib.FMUX_EPOLL
    BARE_EPOLL: Final[int] = lib.FMUX_BARE_EPOLL
    #: What this build and this system have. There is no epoll outside Linux.
    MECHANISMS: Final[dict[str, int]] = {
        name: number
        for name, number in (("epoll", EPOLL), ("poll", lib.FMUX_POLL), ("select", lib.FMUX_SELECT))
        if lib.fmux_mechanisms() >> number & 1
    }
    add = lib.fmux_add
    modify = lib.fmux_modify
    remove = lib.fmux_remove
    wait = lib.fmux_wait
    wait_now = lib.fmux_wait_now
    wait_try = lib.fmux_wait_try
    wait_try_some = lib.fmux_wait_try_some
    wait_forever = lib.fmux_wait_forever
    wakeup = lib.fmux_wakeup
    fileno = lib.fmux_fileno
    close = lib.fmux_close
    set_shared = lib.fmux_set_shared
    poll_once = lib.fmux_poll_once
    poll_once_now = lib.fmux_poll_once_now
    once_size = lib.fmux_once_size
    select_files = lib.fmux_select_files
    stream_wait = lib.fmux_stream_wait
    #: What fmux_stream_wait returns counts the rows that it did not read from in these.
    OTHERS: Final[int] = lib.FMUX_OTHERS

    _MUX_OUT = ffi.typeof("fmux_t **")
    _NUMBERS = ffi.typeof("int32_t[]")
    _POLL = lib.FMUX_POLL
    _STATS_OUT = ffi.typeof("fmux_stats_t *")
    _READY_OUT = ffi.typeof("fmux_ready_t **")
    _STREAM = ffi.typeof("fmux_stream_t *")

#: What stands before the records of a PollList.
_HEADER: Final = struct.Struct("8i")

#: Fewer rows than this are read in another way, which is faster for few and slower for many.
FEW: Final = 16

#: Ready arrays from this size on are left to the kernel.
LARGE: Final = 1 << 16

CLOSED: Final = -errno.ESHUTDOWN


def os_error(result: int) -> OSError:
    """What a negative result of the core stands for, in the standard library's words."""
    return OSError(-result, os.strerror(-result))


def fail(result: int) -> NoReturn:
    """Raise what a negative result of the core stands for, in our own words."""
    if result == CLOSED:
        closed()
    raise refuse_file(os_error(result))


def open_mux(mechanism: int, adopt: int | None = None, shared: bool = False) -> Any:
    """Make a mux; its memory is released with the last reference to what this returns.

    adopt is the descriptor of an epoll set that exists, for a bare mux around it. shared: with children of a fork.
    """
    out = ffi.new(_MUX_OUT)
    result = lib.fmux_open(mechanism, out) if adopt is None else lib.fmux_adopt(adopt, out)
    if result < 0:
        raise os_error(result)
    mux = ffi.gc(out[0], lib.fmux_free)
    if shared:
        set_shared(mux, True)
    return mux


def stats(mux: Any, avoided: int) -> tuple[int, ...]:
    """What a mux has counted, in the order of Stats; avoided are changes that it was not asked for."""
    out = ffi.new(_STATS_OUT)
    lib.fmux_stats(mux, out)
    return (
        *(out.waits, out.events, out.stale_events, out.control_calls, out.control_calls_avoided + avoided),
        *(out.wakeups, out.interruptions, out.renewals),
    )


def pages(size: int) -> Any:
    """Memory from the kernel, resident only where it is used, and not shared with children. Its slices are bytes."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Rows:
    """Memory that the core leaves rows in, and views of its columns; memory[0] says whose turn it is.

    The memory belongs to Python, so a view that somebody keeps holds on to it, even when it has long been replaced.
    The views are made when there is something to see: many a poller is gone before.
    """

    __slots__ = ("_start", "capacity", "events", "fds", "first", "handle", "indices", "memory")

    def __init__(self, handle: Any, memory: bytearray, start: int, capacity: int) -> None:
        self.handle = handle
        self.memory = memory
        self._start = start
        self.capacity = capacity
        #: first[n] is indices[:n]: cutting a view costs more than all else that is done for a few rows.
        self.first: list[memoryview] | None = None

    def views(self) -> list[memoryview]:
        """Make the views; return self.first, which is None until then."""
        view = memoryview(self.memory).toreadonly()
        start, length = self._start, 4 * self.capacity
        self.indices = view[start : start + length].cast("i")
        self.fds = view[start + length : start + 2 * length].cast("i")
        self.events = view[start + 2 * length : start + 3 * length].cast("I")
        self.first = [self.indices[:n] for n in range(min(FEW, self.capacity + 1))]
        return self.first


class Ready(Rows):
    """A ready array of a mux. A shared one stays taken after a wait that left rows in it, until ``memory[0] = 0``."""

    __slots__ = ("_mux", "thread")

    def __init__(self, mux: Any, capacity: int, shared: bool, fail: Callable[[int], Any]) -> None:
        if (size := lib.fmux_ready_bytes(capacity)) < 0:
            fail(size)
        memory = bytearray(size) if size < LARGE else pages(size)
        out = ffi.new(_READY_OUT)
        result = lib.fmux_ready_open(mux, ffi.from_buffer(memory), size, capacity, shared, out)
        if result < 0:
            fail(result)
        super().__init__(ffi.gc(out[0], lib.fmux_ready_free), memory, 16, capacity)
        #: Who made it; a private array serves no other thread.
        self.thread = threading.get_ident()
        self._mux = mux


class NoReady:
    """Stands for an array that has not been made yet: waiting on it is refused as if it were taken."""

    handle = ffi.NULL if ffi is not None else None
    capacity = 1
    thread = None


class PollList(Rows):
    """A question of one poll object, in memory for fmux_poll_once: records are a struct pollfd each."""

    __slots__ = ("few", "short")

    def __init__(self, records: bytes) -> None:
        asked = len(records) // 8
        self.capacity = capacity = asked or 1
        self.memory = memory = bytearray(4 * once_size(_POLL, capacity))
        memory[: 32 + len(records)] = _HEADER.pack(0, capacity, asked, 0, 0, 0, 0, 0) + records
        self.handle = ffi.from_buffer(_NUMBERS, memory)
        self._start = 40 + 8 * capacity
        self.first = None
        #: Asking about so many takes so little that the interpreter lock is not worth letting go of; and about so few,
        #: that even a second question is not.
        self.short = asked <= 1024
        self.few = asked <= ASK_TWICE


class NoPollList:
    """Stands for a list that has not been made yet."""

    handle = None
    memory = bytearray(1)
    few = False


class Inbox:
    """Memory for fmux_stream_wait: what is read arrives in ``arena``, with a row in ``fds`` and ``lengths`` for each.

    ``flags[fd] = 1`` has a socket read when it is ready; cover(fd) makes sure that there is such a flag.
    """

    __slots__ = ("arena", "fds", "flags", "handle", "lengths", "ready")

    def __init__(self, mux: Any, capacity: int, arena: Any, enough: int, fail: Callable[[int], Any]) -> None:
        self.ready = Ready(mux, capacity, True, fail)
        self.ready.views()
        self.arena = arena
        columns = memoryview(bytearray(12 * capacity)).cast("i")
        self.fds, self.lengths = columns[:capacity], columns[capacity : 2 * capacity]
        self.flags = bytearray(256)
        # cffi does not keep alive what is behind the pointers; the attributes here do.
        self.handle = ffi.new(_STREAM)
        self.handle.ready = self.ready.handle
        self.handle.arena = ffi.from_buffer(self.arena)
        self.handle.enough = enough
        self.handle.chunk = len(arena) - enough
        self.handle.fds = ffi.from_buffer(_NUMBERS, self.fds)
        self.handle.lengths = ffi.from_buffer(_NUMBERS, self.lengths)
        self.handle.waiting = ffi.from_buffer(_NUMBERS, columns[2 * capacity :])
        self.cover(255)

    def cover(self, fd: int) -> None:
        """Have the flags reach as far as fd."""
        self.flags = self.flags.ljust(2 * fd, b"\0")
        self.handle.flags = ffi.from_buffer("uint8_t[]", self.flags)
        self.handle.flags_length = len(self.flags)
