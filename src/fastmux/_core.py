"""The only module that touches the compiled extension: its functions by name, its errors as exceptions, and the
ready arrays.

Functions are bound to module-level names because looking up an attribute of ``lib`` for every call costs as much
as a third of the call. Calls with one argument are the cheapest: cffi passes them without a tuple.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Any, Final, NoReturn

from ._base import closed, refuse_file

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

if implementation == "c":
    #: What a wait on a shared array returns: an index below this, or this and the number of rows.
    ROWS: Final[int] = lib.FMUX_ROWS
    #: Descriptors from here on have no index.
    FDS: Final[int] = lib.FMUX_UNKNOWN // 4
    MECHANISMS: Final[dict[str, int]] = {
        name: number
        for name, number in (("epoll", lib.FMUX_EPOLL), ("poll", lib.FMUX_POLL), ("select", lib.FMUX_SELECT))
        if lib.fmux_mechanisms() >> number & 1
    }
    add = lib.fmux_add
    modify = lib.fmux_modify
    remove = lib.fmux_remove
    wait = lib.fmux_wait
    wait_now = lib.fmux_wait_now
    wait_forever = lib.fmux_wait_forever
    wakeup = lib.fmux_wakeup
    fileno = lib.fmux_fileno
    close = lib.fmux_close

    _MUX_OUT = ffi.typeof("fmux_t **")
    _READY_OUT = ffi.typeof("fmux_ready_t **")

#: Fewer rows than this are read in another way, which is faster for few and slower for many.
FEW: Final = 16

CLOSED: Final = -errno.ESHUTDOWN


def fail(result: int) -> NoReturn:
    """Raise what a negative result of the core stands for."""
    if result == CLOSED:
        closed()
    raise refuse_file(OSError(-result, os.strerror(-result)))


def open_mux(mechanism: str) -> Any:
    """Make a mux; its memory is released with the last reference to what this returns."""
    out = ffi.new(_MUX_OUT)
    result = lib.fmux_open(MECHANISMS[mechanism], out)
    if result < 0:
        fail(result)
    return ffi.gc(out[0], lib.fmux_free)


class Ready:
    """A ready array: memory that the core writes to and that Python reads through three views.

    The memory belongs to Python, so a view that somebody keeps holds on to it, even when the array has long been
    replaced. A shared array stays taken after a wait that left rows in it, until ``memory[0] = 0``.
    """

    __slots__ = ("_mux", "capacity", "events", "fds", "first", "handle", "indices", "memory", "thread")

    def __init__(self, mux: Any, capacity: int, *, shared: bool) -> None:
        size = lib.fmux_ready_bytes(capacity)
        if size < 0:
            fail(size)
        memory = bytearray(size)
        out = ffi.new(_READY_OUT)
        result = lib.fmux_ready_open(mux, ffi.from_buffer(memory), size, capacity, shared, out)
        if result < 0:
            fail(result)
        view = memoryview(memory).toreadonly()
        column = 4 * capacity
        self.handle = ffi.gc(out[0], lib.fmux_ready_free)
        self.memory = memory
        self.indices = view[16 : 16 + column].cast("i")
        #: first[n] is indices[:n]: cutting a view costs more than all else that is done for a few rows.
        self.first = [self.indices[:n] for n in range(FEW)] if shared else []
        self.fds = view[16 + column : 16 + 2 * column].cast("i")
        self.events = view[16 + 2 * column : 16 + 3 * column].cast("I")
        self.capacity = capacity
        #: Who made it; a private array serves no other thread.
        self.thread = threading.get_ident()
        self._mux = mux


class NoReady:
    """Stands for an array that has not been made yet: waiting on it is refused as if it were taken."""

    handle = ffi.NULL if ffi is not None else None
    capacity = 1
    thread = None
