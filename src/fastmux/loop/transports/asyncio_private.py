"""The private parts of asyncio that pipes and subprocesses rely on. See fastmux.loop.asyncio_private."""

from __future__ import annotations

from asyncio import base_subprocess, unix_events
from typing import Any

StandardReadPipe: Any = unix_events._UnixReadPipeTransport  # type: ignore[attr-defined]
StandardWritePipe: Any = unix_events._UnixWritePipeTransport  # type: ignore[attr-defined]
StandardSubprocess: Any = unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
#: The protocols of the pipes of a subprocess.
ReadPipeProtocol: Any = base_subprocess.ReadSubprocessPipeProto
WritePipeProtocol: Any = base_subprocess.WriteSubprocessPipeProto
#: The child watchers that the standard library selects: one that waits in threads, one with pidfds. Their names start
#: with an underscore since Python 3.14.
CHILD_WATCHERS: Any = tuple(
    getattr(unix_events, prefix + name)
    for name in ("ThreadedChildWatcher", "PidfdChildWatcher")
    for prefix in ("", "_")
    if hasattr(unix_events, prefix + name)
)
