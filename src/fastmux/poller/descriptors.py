"""Checks of descriptors for StdlibPoller and audit()."""

from __future__ import annotations

import errno
import os
import sys

from fastmux._original import select


def check_open(fd: int) -> None:
    """Raise OSError (EBADF) if the number does not stand for an open file; on Windows, for an open socket."""
    if sys.platform != "win32":
        os.fstat(fd)
        return
    try:
        select.select([fd], [], [], 0)  # os.fstat() does not take the number of a socket
    except OSError:
        message = f"{os.strerror(errno.EBADF)}: select() on Windows takes open sockets only"
        raise OSError(errno.EBADF, message) from None


def is_open(fd: int) -> bool:
    """Return whether the number stands for an open file."""
    try:
        check_open(fd)
    except OSError:
        return False
    return True


def check_limit_of_select(fd: int, count: int) -> None:
    """Raise ValueError if ``select.select`` does not take fd, as one of count descriptors."""
    if sys.platform == "win32":
        if count > 511:
            raise ValueError("too many descriptors: select.select takes 512 on Windows, one of them for wake-ups")
    elif fd > 1023:
        raise ValueError(f"descriptor {fd} is too high: select.select takes those below 1024")
