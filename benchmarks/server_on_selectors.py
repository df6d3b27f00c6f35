"""examples/queued_echo_server.py with the standard library's EpollSelector in the place of fastmux.Poller.

The same handlers, the same system calls; nothing of fastmux runs while it serves. It cannot pause listening, which
the benchmark never makes it do.
"""

from __future__ import annotations

import importlib
import selectors
import socket
import sys
import types
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "queued_echo_server.py"


class SelectorsPoller(selectors.EpollSelector):
    """EpollSelector, with the one thing besides that the example uses."""

    def __init__(self, mechanism: str | None = None) -> None:
        super().__init__()
        self._wake_sender, wake_receiver = socket.socketpair()
        self.register(wake_receiver, selectors.EVENT_READ, lambda events: None)

    def wakeup(self) -> None:
        self._wake_sender.send(b"\0")


def main() -> None:
    sys.path.insert(0, str(PROGRAM.parent))
    server = importlib.import_module(PROGRAM.stem)
    names = {"READ": selectors.EVENT_READ, "WRITE": selectors.EVENT_WRITE}
    vars(server).update(names, fastmux=types.SimpleNamespace(Poller=SelectorsPoller))
    server.run(server.main)


if __name__ == "__main__":
    main()
