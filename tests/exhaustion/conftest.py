"""System calls that fail by a seccomp filter; pairs of a standard class and its mirror; few descriptors left."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import select
import selectors
import struct
from collections.abc import Callable

import pytest

import fastmux

from .outcomes import error_of

#: Numbers of system calls, for known architectures.
NUMBERS = {
    "x86_64": {
        "epoll_create1": 291,
        "epoll_ctl": 233,
        "pipe": 22,
        "pipe2": 293,
        "socket": 41,
        "poll": 7,
        "ppoll": 271,
        "select": 23,
        "pselect6": 270,
    },
    "aarch64": {"epoll_create1": 20, "epoll_ctl": 21, "pipe2": 59, "socket": 198, "ppoll": 73, "pselect6": 72},
}.get(platform.machine(), {})


def forbid(calls, error, operation=None):
    """Make system calls of this thread fail until it ends; operation: only with this argument number 1."""
    libc = ctypes.CDLL(None, use_errno=True)
    set_seccomp, no_new_privileges, filter_mode, zero = 22, 38, 2, ctypes.c_ulong(0)
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    lines = []
    for call in calls:
        if call in NUMBERS:
            rule = [] if operation is None else [(load, 0, 0, 24), (jump_if_equal, 0, 1, operation)]
            lines += [(load, 0, 0, 0), (jump_if_equal, 0, len(rule) + 1, NUMBERS[call]), *rule]
            lines += [(give, 0, 0, 0x50000 | error)]
    lines += [(give, 0, 0, 0x7FFF0000)]
    instructions = b"".join(struct.pack("HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    program = Program(len(lines), ctypes.addressof(memory))
    if libc.prctl(no_new_privileges, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
        set_seccomp, ctypes.c_ulong(filter_mode), ctypes.byref(program), zero, zero
    ):
        pytest.skip(f"no seccomp: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def refused(start_thread):
    """Call a function while system calls fail with an error; return the errno of its OSError, or None.

    The refusals are real: a seccomp filter in a thread of its own, which ends with the thread. operation: the only
    operation of epoll_ctl that fails.
    """
    if not NUMBERS:
        pytest.skip("unknown numbers of system calls")

    def attempt(calls, error, operation, function, args):
        forbid(calls, error, operation)
        return error_of(function, *args)

    def call_refused(calls, error, function, *args, operation=None):
        return start_thread(attempt, calls.split(), error, operation, function, args).result()

    return call_refused


@pytest.fixture(params=["epoll", "poll", "EpollSelector", "PollSelector", "SelectSelector"])
def twins(request):
    """A standard class and its mirror."""
    standard, mirror = (select, fastmux.select) if request.param.islower() else (selectors, fastmux.selectors)
    return getattr(standard, request.param), getattr(mirror, request.param)


@pytest.fixture
def leave_descriptors(descriptors_limit: Callable[[int], None]) -> Callable[[int | None], None]:
    """Lower the limit of open files until so many are left; None restores the limit."""
    before, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(count: int | None) -> None:
        if count is None:
            descriptors_limit(before)
            return
        free: list[int] = []
        try:
            for _ in range(count + 1):
                free.append(os.dup(0))
        finally:
            for fd in free:
                os.close(fd)
        descriptors_limit(free[-1])

    return leave
