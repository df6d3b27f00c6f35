"""Sandboxes and old kernels without the newer system calls: fallbacks to the older ones."""

from __future__ import annotations

import platform
import sys

import pytest

import fastmux

TIMEOUT = 20.0


#: Installs a seccomp filter that fails one system call with an error, and waits in each way.
SANDBOX = """
import ctypes, errno, os, struct, sys, time
import fastmux

class_name, mechanism, call, error = sys.argv[1:]
poller = getattr(fastmux, class_name)(mechanism)

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
instructions = b"".join(
    struct.pack("HBBI", *line)
    for line in [
        (LOAD, 0, 0, 0),  # the number of the call
        (JUMP_IF_EQUAL, 0, 1, int(call)),
        (RETURN, 0, 0, ERRNO | getattr(errno, error)),
        (RETURN, 0, 0, ALLOW),
    ]
)
buffer = ctypes.create_string_buffer(instructions, len(instructions))

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

program = Program(len(instructions) // 8, ctypes.addressof(buffer))
zero = ctypes.c_ulong(0)
if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
    PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero
):
    print("no seccomp:", os.strerror(ctypes.get_errno()))
    sys.exit()

ctypes.set_errno(0)
assert libc.syscall(ctypes.c_long(int(call)), -1, 0, 0, 0, 0, 0) == -1
assert ctypes.get_errno() == getattr(errno, error), "the filter does not work"

for timeout in (1e-9, 0.0004, 0.0011, 0.03):
    for wait in (poller.poll, poller.select, poller.wait):
        start = time.monotonic()
        assert not wait(timeout)
        assert time.monotonic() - start >= timeout, (wait, timeout)

fd = os.eventfd(1)
key = poller.register(fd)
for timeout in (None, 0, 0.0004, 1, 1e6, 4e6):
    assert poller.poll(timeout) == [(fd, fastmux.READ)]
    assert poller.select(timeout) == [(key, fastmux.READ)]
    assert poller.wait(timeout) == 1
poller.modify(fd, 0)
poller.wakeup()
assert poller.poll(4e6) == []
print("works")
"""


#: The newer of two equivalent system calls, which has a fallback. (arm64 has no older poll.)
NEWER_CALLS = {"epoll_pwait2": ("epoll", 441)}


if platform.machine() == "x86_64":
    NEWER_CALLS["ppoll"] = ("poll", 271)


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", NEWER_CALLS)
@pytest.mark.parametrize("class_name", ["Poller", "StdlibPoller"])
def test_waiting_works_where_a_sandbox_refuses_the_newer_system_call(run_python, class_name, call, error):
    mechanism, number = NEWER_CALLS[call]
    if mechanism not in getattr(fastmux, class_name).mechanisms:
        pytest.skip("the extension was built without it")
    if class_name == "StdlibPoller" and call == "ppoll" and sys.version_info >= (3, 15):
        pytest.skip("the standard library has no fallback")

    output = run_python(SANDBOX, class_name, mechanism, str(number), error).strip()

    if output.startswith("no seccomp"):
        pytest.skip(output)
    assert output == "works"
