"""The epoll set of an EpollSelector: a mux, with the methods of an epoll object that the standard selector calls."""

from __future__ import annotations

from fastmux import _binding
from fastmux._binding import os_error
from fastmux._original import select
from fastmux.select.arguments import descriptor_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class EpollSet:
    """An epoll set that drops stale reports and has a wake-up: a mux."""

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context: Any = context

    # A registration by the standard selector has no place in the table of pairs: waits find its key in the map of keys.

    def register(self, fd: int, eventmask: int) -> None:
        if (result := _binding.context_add(self.context, descriptor_of(fd), eventmask)) < 0:
            self.fail(result)

    def modify(self, fd: int, eventmask: int) -> None:
        if (result := _binding.context_modify(self.context, descriptor_of(fd), eventmask)) < 0:
            self.fail(result)

    def unregister(self, fd: int) -> None:
        if (result := _binding.key_remove(self.context, descriptor_of(fd))) < 0:
            self.fail(result)

    def fail(self, result: int) -> NoReturn:
        """Raise the exception of a standard epoll object."""
        if result == _binding.CLOSED:
            raise ValueError("I/O operation on closed epoll object")
        raise os_error(result)

    def refuse(self, timeout: float) -> NoReturn:
        """Raise the exception for a timeout that is too large."""
        self.fileno()  # raises first if this is closed
        with select.epoll() as other:
            other.poll(timeout)
        raise OverflowError("timeout is too large")

    def fileno(self) -> int:
        fd: int = _binding.context_fileno(self.context)
        return fd if fd >= 0 else self.fail(fd)

    def close(self) -> None:
        _binding.context_close(self.context)
