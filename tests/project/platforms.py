"""Run a program or tests as on another platform: without what that platform lacks.

    python tests/project/platforms.py windows tests/project/smoke.py
    PYTHONPATH=tests/project pytest -p platforms --as windows tests/poller

A profile removes functions, constants and modules from this interpreter, and sets sys.platform, before fastmux is
imported: fastmux and the standard library run without them. The files of the tests are exempt. Their tools (forks,
/proc, timers, the oracle) are those of the system that runs them.
"""

from __future__ import annotations

import builtins
import ctypes  # noqa: F401  (before sys.platform changes)
import errno
import fnmatch
import importlib
import math
import multiprocessing  # noqa: F401
import os
import platform
import runpy
import select
import socket
import subprocess  # noqa: F401
import sys
import sysconfig
import tempfile  # noqa: F401
import urllib.request  # noqa: F401
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

TESTS = str(Path(__file__).parents[1])

#: The real modules, for the files of the tests.
_real: dict[str, ModuleType] = {}
_dup, _epoll, _poll, _socketpair = os.dup, select.epoll, select.poll, socket.socketpair


def remove(module: str, names: str) -> None:
    """Remove the named functions and constants of a module; NAME* stands for all that begin with NAME."""
    namespace = vars(importlib.import_module(module))
    for pattern in names.split():
        for name in fnmatch.filter(namespace, pattern):
            del namespace[name]


class Absent:
    """A descriptor that hides an inherited attribute."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AttributeError


def milliseconds(timeout: float | None) -> float | None:
    return None if timeout is None else math.ceil(timeout * 1000)


# Windows

#: Modules that Windows lacks.
REMOVED = ("fcntl", "grp", "pty", "pwd", "resource", "termios")


def is_socket(fd: int) -> bool:
    """Return whether Windows would take fd for a socket. Eventfds count as sockets: only the tests can make them."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("socket:", "anon_inode:[eventfd]"))
    except OSError:
        return False


def not_for_sockets(function: Callable[..., Any]) -> Callable[..., Any]:
    """On Windows the functions of os do not take the number of a socket."""

    def checked(fd: Any, *args: Any, **options: Any) -> Any:
        if isinstance(fd, int) and is_socket(fd):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return function(fd, *args, **options)

    return checked


def winsock_select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """select() of Windows: at most 512 sockets a list, at least one in all; a refused connection is exceptional."""
    lists = [list(files) for files in (rlist, wlist, xlist)]
    numbers = [[file if isinstance(file, int) else file.fileno() for file in files] for files in lists]
    if max(map(len, lists)) > 512:
        raise ValueError("too many file descriptors in select()")
    if not any(lists):
        raise OSError(10022, "An invalid argument was supplied")
    poll = _poll()
    for fd in {fd for fds in numbers for fd in fds}:
        if not is_socket(fd):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
        poll.register(fd, sum(bit for bit, fds in zip((1, 4, 2), numbers) if fd in fds))
    found = dict(poll.poll(milliseconds(timeout)))
    refused = {fd for fd, events in found.items() if events & 8 and not is_connected(fd)}
    reads, writes, urgent = ({fd for fd, events in found.items() if events & bits} for bits in (1 | 16, 4, 2))
    ready = (reads, writes - refused, urgent | refused)
    return tuple(  # type: ignore[return-value]
        [file for file, fd in zip(files, fds) if fd in here] for files, fds, here in zip(lists, numbers, ready)
    )


def is_connected(fd: int) -> bool:
    with socket.socket(fileno=_dup(fd)) as sock:
        try:
            sock.getpeername()
        except OSError:
            return False
    return True


def tcp_socketpair(*args: Any) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


class Winapi(ModuleType):
    """A module of Windows, as far as importing asyncio needs it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0


def windows() -> None:
    sys.platform = "win32"
    remove("select", "epoll poll EPOLL* POLL* PIPE_BUF")
    remove(
        "os", "register_at_fork fork* eventfd* EFD_* pidfd_open memfd_create pipe2 set_blocking openpty sendfile uname"
    )
    remove(
        "os", "W* wait3 wait4 waitid killpg pread* pwrite* readv writev sched_* getuid geteuid getgid getegid setsid"
    )
    remove("os", "O_CLOEXEC O_NONBLOCK")
    remove("signal", "setitimer ITIMER_* alarm pthread_* sigwait* SIGUSR* SIGALRM SIGCHLD SIGPIPE")
    remove("socket", "AF_UNIX socketpair CMSG_* SCM_* send_fds recv_fds MSG_NOSIGNAL")
    remove("mmap", "MAP_* PROT_* MADV_*")
    sys.modules.update(dict.fromkeys(REMOVED))  # type: ignore[arg-type]
    for name in ("fstat", "read", "write", "close", "dup", "dup2"):
        setattr(os, name, not_for_sockets(getattr(os, name)))
    select.select = winsock_select
    socket.socketpair = tcp_socketpair
    socket.socket.sendmsg = socket.socket.recvmsg = Absent()  # type: ignore
    for name in ("_winapi", "_overlapped", "msvcrt"):
        sys.modules[name] = Winapi(name)


# macOS, the BSDs


class Event(NamedTuple):
    ident: int
    filter: int
    flags: int = 1


class Kqueue:
    """A kqueue on poll(), as far as the standard selector needs it."""

    def __init__(self) -> None:
        self._bits: dict[tuple[int, int], int] = {}  # (descriptor, filter) -> what poll() reports for it

    def close(self) -> None:
        self._bits.clear()

    def control(self, changes: Iterable[Event] | None, most: int, timeout: float | None = None, /) -> list[Event]:
        for fd, kind, flags in changes or ():
            if flags == 1:
                os.fstat(fd)  # kevent(2) refuses a closed file
                self._bits[fd, kind] = {-1: select.POLLIN, -2: select.POLLOUT}[kind]
            else:
                self._bits.pop((fd, kind), None)
        poll = _poll()
        for fd, _ in self._bits:
            poll.register(fd, sum(bit for (at, _), bit in self._bits.items() if at == fd))
        found = dict(poll.poll(milliseconds(timeout))) if most else {}
        always = select.POLLHUP | select.POLLERR
        return [Event(*place) for place, bit in self._bits.items() if found.get(place[0], 0) & (bit | always)][:most]


def bsd() -> None:
    sys.platform = "freebsd14"
    remove_linux()
    select.POLLRDHUP = 0x4000


def macos() -> None:
    sys.platform = "darwin"
    remove_linux()
    remove("os", "sched_*")


def remove_linux() -> None:
    remove("select", "epoll EPOLL* POLLRDHUP POLLMSG")
    remove("os", "eventfd* EFD_* pidfd_open memfd_create MFD_* pipe2")
    remove("mmap", "MAP_POPULATE MAP_STACK MAP_NORESERVE")
    vars(select).update(kqueue=Kqueue, kevent=Event, KQ_FILTER_READ=-1, KQ_FILTER_WRITE=-2, KQ_EV_ADD=1, KQ_EV_DELETE=2)


# PyPy


class Epoll:
    """An epoll object of PyPy."""

    __module__ = "select"

    def __init__(self, *args: Any) -> None:
        self._epoll = _epoll(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def __enter__(self) -> Epoll:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._epoll.close()

    def poll(self, timeout: float = -1.0, maxevents: int = -1) -> list[tuple[int, int]]:
        return self._epoll.poll(float(timeout), maxevents)


def pypy() -> None:
    """PyPy on Linux: its modules lack some names of Linux, and epoll objects take no None as a timeout."""
    platform.python_implementation = lambda: "PyPy"
    remove("select", "POLLRDHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLL_CLOEXEC")
    remove("os", "eventfd* EFD_* pidfd_open memfd_create")
    select.epoll = Epoll


PROFILES: dict[str, Callable[[], None]] = {"windows": windows, "macos": macos, "bsd": bsd, "pypy": pypy}
WITHOUT_EXTENSION = ("pypy", "windows")
#: Modules that a profile changes, or that choose by them what they define.
CHANGED = ("mmap", "os", "select", "selectors", "signal", "socket")


def become(name: str) -> None:
    """Apply a profile to this interpreter. FASTMUX_PURE=1 decides about the extension where there is one."""
    globals()["__name__"] = "selectors"  # fastmux restores what functions of other modules replace
    assert not {"asyncio", "fastmux"} & {*sys.modules}, "too late"
    for module in (*CHANGED, *REMOVED):
        _real[module] = ModuleType(module)
        vars(_real[module]).update(vars(importlib.import_module(module)))
    if name in WITHOUT_EXTENSION:
        os.environ["FASTMUX_PURE"] = "1"
    sysconfig.get_config_vars()  # read from a file that has the platform in its name
    # Without arguments it looks for AF_UNIX in its module.
    _real["socket"].socketpair = lambda *args: _socketpair(*(args or (1,)))
    PROFILES[name]()
    del sys.modules["selectors"]
    _real["selectors"] = importlib.import_module("selectors")


# pytest


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--as", dest="profile", choices=sorted(PROFILES), help="the platform to run as")


def pytest_load_initial_conftests(early_config: Any) -> None:
    become(early_config.known_args_namespace.profile)
    real_import = builtins.__import__

    def import_for(name: str, globals: Any = None, *args: Any, **options: Any) -> Any:
        if name in _real and str((globals or {}).get("__file__")).startswith(TESTS):
            return _real[name]
        return real_import(name, globals, *args, **options)

    builtins.__import__ = import_for  # type: ignore[assignment]


pytest_load_initial_conftests.pytest_impl = {"tryfirst": True}  # type: ignore[attr-defined]


if __name__ == "__main__":
    profile, *sys.argv = sys.argv[1:]
    become(profile)
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
