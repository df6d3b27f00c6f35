"""What the tests use on Linux and PyPy lacks. conftest.py loads it there, and so does each program of run_python()."""

import ctypes
import fcntl
import os
import select
import sys

_libc = ctypes.CDLL(None)


def eventfd(counter, flags=os.O_CLOEXEC):
    return _libc.eventfd(counter, flags)


def eventfd_read(fd):
    return int.from_bytes(os.read(fd, 8), sys.byteorder)


def eventfd_write(fd, value):
    os.write(fd, value.to_bytes(8, sys.byteorder))


os.eventfd, os.eventfd_read, os.eventfd_write = eventfd, eventfd_read, eventfd_write
os.EFD_CLOEXEC, os.EFD_NONBLOCK, os.EFD_SEMAPHORE = os.O_CLOEXEC, os.O_NONBLOCK, 1
fcntl.F_DUPFD_CLOEXEC = 1030
select.POLLRDHUP = select.EPOLLRDHUP = 0x2000
select.EPOLLEXCLUSIVE = 1 << 28
