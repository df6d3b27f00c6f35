"""Run examples/queued_echo_server.py on fastmux.Poller or on the standard EpollSelector, for the chapter echo.

    python -m benchmarks.servers.queued_server fastmux | selectors

Both run the same handlers and make the same system calls; on selectors, no code of fastmux runs while it serves. There
it cannot pause listening, which the benchmark never triggers.
"""

from __future__ import annotations

import importlib
import selectors
import socket
import sys
import types
from pathlib import Path

from .asyncio_server import set_options

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "queued_echo_server.py"


def make_selector(mechanism: str) -> selectors.BaseSelector:
    return selectors.EpollSelector()


def main() -> None:
    library = sys.argv[1]
    sys.argv[1:] = ["--port", "0"]
    sys.path.insert(0, str(PROGRAM.parent))
    server = importlib.import_module(PROGRAM.stem)
    listen = server.listen

    def listen_with_options(host: str, port: int) -> socket.socket:
        sock: socket.socket = listen(host, port)
        set_options(sock)
        return sock

    vars(server)["listen"] = listen_with_options
    if library == "selectors":
        names = {"READ": selectors.EVENT_READ, "WRITE": selectors.EVENT_WRITE}
        vars(server).update(names, fastmux=types.SimpleNamespace(Poller=make_selector))
    server.run(server.main)


if __name__ == "__main__":
    main()
