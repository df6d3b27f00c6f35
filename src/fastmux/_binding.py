"""The only module that imports the compiled extension: its functions, its errors as exceptions, and ready arrays.

Functions are bound to module-level names: looking up an attribute of ``lib`` takes 16 ns, a call 25.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec

from ._original import SelectorKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn


def is_set(variable: str) -> bool:
    """Return whether an environment variable has another value than 0."""
    return os.environ.get(variable, "0") not in ("", "0")


try:
    if is_set("FASTMUX_PURE"):
        raise ImportError("FASTMUX_PURE is set in the environment")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise ImportError("this Python has no interpreter lock: the extension has not been tested without it")
    from . import _native
except ImportError as error:
    #: "c" if the extension is in use, "python" if everything runs on the standard library.
    implementation = "python"
    #: Why the extension is not in use.
    reason = str(error)
    lib: Any = None
    ffi: Any = None
else:
    implementation = "c"
    lib = _native.lib
    ffi = _native.ffi

if implementation == "c":
    EPOLL: Final[int] = lib.FMUX_EPOLL
    #: The mechanisms of this build on this system, the best first.
    MECHANISMS: Final[dict[str, int]] = {
        name: number
        for name, number in (("epoll", EPOLL), ("poll", lib.FMUX_POLL), ("select", lib.FMUX_SELECT))
        if lib.fmux_mechanisms() >> number & 1
    }

    SET_ADD: Final[int] = lib.FMUX_SET_ADD
    SET_MODIFY: Final[int] = lib.FMUX_SET_MODIFY
    SET_REMOVE: Final[int] = lib.FMUX_SET_REMOVE

    add = lib.fmux_add
    modify = lib.fmux_modify
    key_add = lib.fmux_key_add
    key_modify = lib.fmux_key_modify
    key_replace = lib.fmux_key_replace
    key_remove = lib.fmux_key_remove
    selector_register = lib.fmux_selector_register
    selector_unregister = lib.fmux_selector_unregister
    selector_modify = lib.fmux_selector_modify
    pairs_now = lib.fmux_pairs_now
    pairs_wait = lib.fmux_pairs_wait
    pairs_some = lib.fmux_pairs_some
    epoll_open = lib.fmux_epoll_open
    epoll_close = lib.fmux_epoll_close
    epoll_fileno = lib.fmux_epoll_fileno
    epoll_control = lib.fmux_epoll_control
    epoll_now = lib.fmux_epoll_now
    epoll_wait = lib.fmux_epoll_wait
    epoll_some = lib.fmux_epoll_some
    keys_now = lib.fmux_keys_now
    keys_wait = lib.fmux_keys_wait
    selector_now = lib.fmux_selector_now
    selector_wait = lib.fmux_selector_wait
    rows_now = lib.fmux_rows_now
    rows_wait = lib.fmux_rows_wait
    add_poll = lib.fmux_add_poll
    poll_object = lib.fmux_poll_object
    poll_context = lib.fmux_poll_context
    poll_keys_now = lib.fmux_poll_keys_now
    poll_keys = lib.fmux_poll_keys
    add_select = lib.fmux_add_select
    wakeup = lib.fmux_wakeup
    fileno = lib.fmux_fileno
    close = lib.fmux_close
    set_shared = lib.fmux_set_shared
    hide = lib.fmux_hide

    #: The cache of (fd, events) pairs, see csrc/python/results.c.
    PAIRS: Final = lib.fmux_pairs()

    _MUX_OUT = ffi.typeof("fmux_t **")
    _STATS_OUT = ffi.typeof("fmux_stats_t *")
    _READY_OUT = ffi.typeof("fmux_ready_t **")
    _BYTES = ffi.typeof("char[]")
    #: Memory that is resident only where it is used: not cleared, and from the kernel if it is large.
    _allocate = ffi.new_allocator(should_clear_after_alloc=False)
    NULL: Final = ffi.NULL
    #: A ready array that does not exist yet. Every wait on it is refused as busy.
    NO_ARRAY: Final = NULL

#: The largest int of C.
INT_MAX: Final = (1 << 31) - 1

#: The most frequent timeout and maxevents. Compared by identity: this is fast, and 0j is no timeout.
NOW: Final = 0
ALL: Final = -1

#: Results of a wait. Three are no failures: try another array; make a larger one; convert the arguments first.
BUSY: Final = -errno.EBUSY
TOO_SMALL: Final = -errno.ENOBUFS
UNUSUAL: Final = -errno.EDOM
CLOSED: Final = -errno.ESHUTDOWN


def closed() -> NoReturn:
    """Raise the ValueError of every call on a closed poller."""
    raise ValueError("I/O operation on closed poller")


def os_error(result: int) -> OSError:
    """Return the exception for a negative result of the core, in the standard library's words."""
    return OSError(-result, os.strerror(-result))


def explain_refusal(error: OSError) -> OSError:
    """Replace an EPERM of epoll by one with an explanation."""
    if error.errno != errno.EPERM:
        return error
    return PermissionError(
        errno.EPERM, "epoll cannot watch this file: regular files and directories are always ready, so just use them"
    )


def fail(result: int) -> NoReturn:
    """Raise the exception for a negative result of the core, in fastmux's words."""
    if result == CLOSED:
        closed()
    raise explain_refusal(os_error(result))


def open_mux(mechanism: int, shared: bool) -> Any:
    """Make a mux, whose memory is released with the last reference to the result. shared: see fmux_set_shared."""
    out = ffi.new(_MUX_OUT)
    if (result := lib.fmux_open(mechanism, out)) < 0:
        raise os_error(result)
    mux = ffi.gc(out[0], lib.fmux_free)
    hide(mux)
    if shared:
        set_shared(mux, True)
    return mux


def open_ready(mux: Any, capacity: int, shared: bool, context: Any, fail: Callable[[int], Any]) -> tuple[Any, Any]:
    """Make a ready array; return it and its memory. The memory and context live at least as long as the array."""
    if (size := lib.fmux_ready_bytes(capacity)) < 0:
        fail(size)
    memory = _allocate(_BYTES, size)
    out = ffi.new(_READY_OUT)
    result = lib.fmux_ready_open(mux, memory, size, capacity, shared, out)
    if result < 0:
        fail(result)
    ready = out[0]
    lib.fmux_use_context(ready, context)
    free = lib.fmux_ready_free
    # The default argument keeps both alive, even while a thread waits with an array that was replaced.
    ready = ffi.gc(ready, lambda ready, alive=(memory, context): free(ready))
    hide(ready)
    return ready, memory


def open_context(mux: Any, *, table: list[Any] | None = None, keys: dict[int, Any] | None = None) -> bytearray:
    """Make a context, see calls.h. Its owner keeps the objects alive."""
    context: bytearray = lib.fmux_context(mux, table, keys, None, PAIRS, SelectorKey)
    return context


def import_loop() -> Any:
    """Import the module with the objects of the event loop: another module of the same library.

    It imports asyncio. Raises ImportError if the interpreter lacks a function that it needs.
    """
    name = "fastmux._loop"
    if name not in sys.modules:
        loader = ExtensionFileLoader(name, _native.__file__)
        module = module_from_spec(ModuleSpec(name, loader, origin=_native.__file__))
        loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def stats(mux: Any, avoided: int) -> tuple[int, ...]:
    """Return the counters of a mux in the order of Stats; avoided is the number of changes without a system call."""
    out = ffi.new(_STATS_OUT)
    lib.fmux_stats(mux, out)
    return (
        *(out.waits, out.events, out.stale_events, out.control_calls, avoided),
        *(out.wakeups, out.interruptions, out.renewals),
    )


class Waits:
    """A mixin for objects that wait with a mux: it picks a ready array that no other thread is using.

    No lock guards the attributes. Each is read and replaced as a whole, and an array that was replaced still works: the
    core admits one wait at a time and refuses others as busy.
    """

    __slots__ = ("_context", "_local", "_mux", "_ready", "_room")

    def _start(self, mux: Any, room: int, context: bytearray) -> None:
        self._mux = mux  # constant
        self._context = context  # constant
        self._room = room  # rows of new arrays
        #: The array that every wait tries first, made at the first wait.
        self._ready: Any = NO_ARRAY
        #: Arrays of other threads: .ready and .room.
        self._local: Any = None

    def _fail(self, result: int) -> Any:
        """Raise the exception for a negative result of the core."""
        raise NotImplementedError

    def _wait_again(self, wait: Callable[..., Any], timeout: float | None, *arguments: Any) -> Any:
        """Slow path of a wait: repeat wait(array, timeout, *arguments) until an array is free."""
        array = self._ready
        while (result := wait(array, timeout, *arguments)).__class__ is not list:
            if result.__class__ is float:
                timeout = result  # the rest
            elif result == TOO_SMALL:
                self._grow(2 * self._room)
            elif result != BUSY:
                self._fail(result)
            array = self._free_array(array)
        return result

    def _free_array(self, busy: Any) -> Any:
        """Return another array than ``busy``: the common one if it does not exist yet, else this thread's own."""
        if self._ready is NO_ARRAY:
            self._ready = ready = open_ready(self._mux, self._room, True, self._context, self._fail)[0]
            return ready
        if self._local is None:
            self._local = threading.local()
        local = self._local
        if getattr(local, "room", 0) != self._room or local.ready is busy:
            local.ready = open_ready(self._mux, self._room, True, self._context, self._fail)[0]
            local.room = self._room
        return local.ready

    def _grow(self, room: int) -> None:
        """Use larger arrays from now on. Waits in progress keep theirs."""
        self._room = room
        self._ready = NO_ARRAY
