"""The types of csrc/python/loop, for type checkers. Each field hides a private attribute of the standard class."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

class Handle(asyncio.Handle): ...
class TimerHandle(asyncio.TimerHandle): ...

class Ring:
    def append(self, item: Any, /) -> None: ...
    def clear(self) -> None: ...
    def extend(self, items: Iterable[Any], /) -> None: ...
    def popleft(self) -> Any: ...
    def _replace(self, count: int, items: list[Any], /) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...

class LoopCore:
    _gathers: bool
    _overridden: bool
    _uses_core: bool

class StreamCore(asyncio.Transport):
    _buffer: Any
    _buffered: bool
    _closing: bool
    _conn_lost: int
    _empty_waiter: Any
    _eof: bool
    _extra: dict[str, Any]
    _high_water: int
    _loop: Any
    _low_water: int
    _paused: bool
    _protocol: Any
    _protocol_connected: bool
    _protocol_paused: bool
    _server: Any
    _sock: Any
    _sock_fd: int
    max_size: int

    def _maybe_pause_protocol(self) -> None: ...
    def _maybe_resume_protocol(self) -> None: ...
    def _read_ready(self) -> None: ...
    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

class ReadPipeCore(asyncio.ReadTransport):
    _closing: bool
    _extra: dict[str, Any]
    _fileno: int
    _loop: Any
    _paused: bool
    _pipe: Any
    _protocol: Any
    max_size: int

    def _read_ready(self) -> None: ...

class WritePipeCore(asyncio.WriteTransport):
    _buffer: Any
    _closing: bool
    _conn_lost: int
    _extra: dict[str, Any]
    _fileno: int
    _loop: Any
    _pipe: Any
    _protocol: Any

    def _maybe_pause_protocol(self) -> None: ...
    def _maybe_resume_protocol(self) -> None: ...
    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def _write_buffer(self) -> int: ...

def accept(listener: Any, /) -> tuple[Any, Any] | None: ...
def set_nodelay(sock: Any, /) -> None: ...
def setup(queue: Any, report: Any, open_array: Any, fail: Any, /) -> None: ...
