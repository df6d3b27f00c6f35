"""examples/echo_server.py with the standard library's EpollSelector in the place of fastmux.Poller.

The same handlers, the same system calls; nothing of fastmux runs while it serves. It cannot pause listening, which
the benchmark never makes it do.
"""

from __future__ import annotations

import importlib.util
import selectors
import socket
import types
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "echo_server.py"


class SelectorsPoller(selectors.EpollSelector):
    """EpollSelector, with the two things besides that the example uses."""

    def __init__(self, mechanism: str | None = None) -> None:
        super().__init__()
        self._wake_sender, wake_receiver = socket.socketpair()
        self.register(wake_receiver, selectors.EVENT_READ, lambda events: None)

    def wakeup(self) -> None:
        self._wake_sender.send(b"\0")

    def __len__(self) -> int:
        return len(self.get_map()) - 1


def main() -> None:
    spec = importlib.util.spec_from_file_location("echo_server", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    names = {"READ": selectors.EVENT_READ, "WRITE": selectors.EVENT_WRITE}
    vars(server).update(names, fastmux=types.SimpleNamespace(Poller=SelectorsPoller))
    server.main()


if __name__ == "__main__":
    main()
