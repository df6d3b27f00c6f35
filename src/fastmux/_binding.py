"""The only module that imports the compiled extension: its functions, its errors as exceptions, and ready arrays.

Functions are bound to module-level names: looking up an attribute of ``lib`` takes 16 ns, a call 25.
"""

from __future__ import annotations

import errno
import os
import sys
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

#: The default of data in Poller.modify().
UNCHANGED: Final[Any] = object()

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

    file_register = lib.fmux_file_register
    file_unregister = lib.fmux_file_unregister
    file_modify = lib.fmux_file_modify
    fd_register = lib.fmux_fd_register
    key_add = lib.fmux_key_add
    key_modify = lib.fmux_key_modify
    key_replace = lib.fmux_key_replace
    key_remove = lib.fmux_key_remove
    context_close = lib.fmux_context_close
    context_capacity = lib.fmux_context_capacity
    context_add = lib.fmux_context_add
    context_modify = lib.fmux_context_modify
    context_set_shared = lib.fmux_context_set_shared
    context_wakeup = lib.fmux_context_wakeup
    context_fileno = lib.fmux_context_fileno
    context_stats = lib.fmux_context_stats
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
    hide = lib.fmux_hide

    #: The cache of (fd, events) pairs, see csrc/python/results.c.
    PAIRS: Final = lib.fmux_pairs()
    #: A context without a mux, from which others are made.
    FIRST_CONTEXT: Final = lib.fmux_first_context(PAIRS, SelectorKey, UNCHANGED)

    _READY_OUT = ffi.typeof("fmux_ready_t **")
    _BYTES = ffi.typeof("char[]")
    #: Memory that is resident only where it is used: not cleared, and from the kernel if it is large.
    _allocate = ffi.new_allocator(should_clear_after_alloc=False)
    #: A ready array that does not exist yet. Every wait on it is refused as busy.
    NO_ARRAY: Final = ffi.NULL

#: The largest int of C.
INT_MAX: Final = (1 << 31) - 1

#: The most frequent timeout and maxevents. Compared by identity: this is fast, and 0j is no timeout.
NOW: Final = 0
ALL: Final = -1

#: Results of a call. Two are no failures: try another array; convert the arguments first.
BUSY: Final = -errno.EBUSY
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


def selector_context(keys: dict[int, Any]) -> Any:
    """Make the context of an EpollSelector, see csrc/python/contexts.c. Children of a fork share its set."""
    context = lib.fmux_selector_context(FIRST_CONTEXT, keys)
    if context.__class__ is int:
        raise os_error(context)
    return context


def poller_context(keys: dict[int, Any], mechanism: str, shared: int, capacity: int, events: int) -> Any:
    """Make the context of a Poller that takes these events."""
    context = lib.fmux_poller_context(FIRST_CONTEXT, keys, MECHANISMS[mechanism], shared, capacity, events)
    if context.__class__ is int:
        raise os_error(context)
    return context


def open_ready(context: Any, rows: int, shared: bool, fail: Callable[[int], Any]) -> tuple[Any, Any]:
    """Make a ready array; return it and its memory, which lives at least as long. A wait with it needs the context."""
    if (size := lib.fmux_ready_bytes(rows)) < 0:
        fail(size)
    memory = _allocate(_BYTES, size)
    out = ffi.new(_READY_OUT)
    result = lib.fmux_context_ready_open(context, memory, size, rows, shared, out)
    if result < 0:
        fail(result)
    ready = out[0]
    free = lib.fmux_ready_free
    # The default argument keeps the memory alive, even while a thread waits with an array that was replaced. It must
    # not keep the context: that may be in a cycle.
    ready = ffi.gc(ready, lambda ready, memory=memory: free(ready))
    hide(ready)
    return ready, memory


def import_loop() -> Any:
    """Import the module with the objects of the event loop: another module of the same library.

    It imports asyncio. Raises ImportError if the interpreter lacks a function that it needs, or another one uses it.
    """
    name = "fastmux._loop"
    if name not in sys.modules:
        loader = ExtensionFileLoader(name, _native.__file__)
        module = module_from_spec(ModuleSpec(name, loader, origin=_native.__file__))
        loader.exec_module(module)
        module.check()
        sys.modules[name] = module
    return sys.modules[name]
