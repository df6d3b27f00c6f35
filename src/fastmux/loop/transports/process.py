"""The transport of a subprocess: a pidfd tells when the process has exited, and all pipes are connected at once.

On Python 3.10 and 3.11 the standard loop starts a thread for each process, which waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from typing import Any, Final

from fastmux.loop.asyncio_private import StandardLoop

from .asyncio_private import CHILD_WATCHERS, ReadPipeProtocol, StandardSubprocess, WritePipeProtocol

_logger = logging.getLogger("asyncio")


class _OutputProtocol(ReadPipeProtocol):  # type: ignore[misc]
    """Delivers output as the standard protocol, with one call instead of three."""

    def data_received(self, data: bytes) -> None:
        transport = self.proc
        if transport._pending_calls is None:
            transport._loop.call_soon(transport._protocol.pipe_data_received, self.fd, data)
        else:
            super().data_received(data)


class _SubprocessTransport(StandardSubprocess):  # type: ignore[misc]
    """A subprocess."""

    #: Owned by this object; None if a thread waits for the process.
    _pidfd: int | None = None
    _pending_calls: Any

    async def _connect_pipes(self, waiter: asyncio.Future[None] | None) -> None:
        """Connect the pipes without waiting: their transports queue all callbacks in order."""
        try:
            loop, process = self._loop, self._proc
            if process.stdin is not None:
                self._connect(0, process.stdin, WritePipeProtocol(self, 0), loop._make_write_pipe_transport)
            if process.stdout is not None:
                self._connect(1, process.stdout, _OutputProtocol(self, 1), loop._make_read_pipe_transport)
            if process.stderr is not None:
                self._connect(2, process.stderr, _OutputProtocol(self, 2), loop._make_read_pipe_transport)
            loop.call_soon(self._protocol.connection_made, self)
            for callback, data in self._pending_calls:
                loop.call_soon(callback, *data)
            self._pending_calls = None
            self._pipes_connected = True  # since Python 3.13.4
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if waiter is not None and not waiter.cancelled():
                waiter.set_exception(exc)
        else:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def _connect(self, fd: int, pipe: Any, protocol: Any, make_transport: Any) -> None:
        protocol.pipe = make_transport(pipe, protocol)  # close() needs it before connection_made()
        self._pipes[fd] = protocol

    def _watch(self) -> None:
        """Wait for the exit of the process."""
        loop = self._loop
        try:
            self._pidfd = os.pidfd_open(self._pid)
            loop._add_reader(self._pidfd, self._exited)
        except OSError:  # no descriptor left, or not allowed
            self._close_pidfd()
            _waiting_threads().add_child_handler(self._pid, loop._child_watcher_callback, self)

    def _exited(self) -> None:
        """Read the exit status; called when the pidfd is readable.

        A signal handler may raise at any point. The status stays in the kernel until it is delivered.
        """
        if (pidfd := self._pidfd) is None:
            return
        try:
            status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
            assert status is not None
            returncode = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        except ChildProcessError:
            returncode = 255
            _logger.warning("child process pid %d exit status already read: will report returncode 255", self._pid)
        self._loop.call_soon(self._process_exited, returncode)
        self._loop._remove_reader(pidfd)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._close_pidfd()

    def _process_exited(self, returncode: int) -> None:
        if self._returncode is None:
            super()._process_exited(returncode)

    def _close_pidfd(self) -> None:
        if (pidfd := self._pidfd) is not None:
            self._pidfd = None
            os.close(pidfd)

    def __del__(self, *args: Any) -> None:
        self._close_pidfd()  # the loop was closed before the process has exited
        super().__del__(*args)


_threads: Any = None


def _waiting_threads() -> Any:
    """Return the object that waits for processes in threads."""
    global _threads
    if _threads is None:
        _threads = CHILD_WATCHERS[0]()
    return _threads


def _has_own_watcher(loop: Any) -> bool:
    """Whether a program has set a child watcher other than those that the standard library selects."""
    if sys.version_info >= (3, 14):
        return type(loop._watcher) is not CHILD_WATCHERS[1]
    policy: Any = asyncio.get_event_loop_policy()
    if getattr(type(policy), "get_child_watcher", None) is not asyncio.DefaultEventLoopPolicy.get_child_watcher:
        return True
    watcher = policy._watcher
    return watcher is not None and type(watcher) not in CHILD_WATCHERS


#: Methods that the standard transport calls on the loop.
_LOOP_METHODS: Final = ("connect_read_pipe", "connect_write_pipe", "_child_watcher_callback")


def is_plain(loop: Any) -> bool:
    """Whether a pidfd has the effect of the child watcher: the platform has it, and nothing is replaced."""
    return (
        hasattr(os, "pidfd_open")
        and all(getattr(getattr(loop, name), "__func__", None) is getattr(StandardLoop, name) for name in _LOOP_METHODS)
        and not _has_own_watcher(loop)
    )


async def start(loop: Any, protocol: Any, *args: Any, **options: Any) -> Any:
    """Start a process, and return its transport."""
    waiter = loop.create_future()
    transport = _SubprocessTransport(loop, protocol, *args, waiter=waiter, **options)
    transport._watch()
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
