"""examples/queued_echo_server.py on fastmux.Poller, or on the standard library's EpollSelector in its place.

    python -m benchmarks.queued_server fastmux | selectors

The same handlers, the same system calls; on selectors, nothing of fastmux runs while it serves. It cannot pause
listening there, which the benchmark never makes it do.
"""

from __future__ import annotations

import importlib
import selectors
import socket
import sys
import types
from pathlib import Path

from .asyncio_server import prepare

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "queued_echo_server.py"


def make_selector(mechanism: str) -> selectors.BaseSelector:
    return selectors.EpollSelector()


def main() -> None:
    library = sys.argv[1]
    sys.argv[1:] = ["--port", "0"]
    sys.path.insert(0, str(PROGRAM.parent))
    server = importlib.import_module(PROGRAM.stem)
    listen = server.listen

    def listen_like_the_others(host: str, port: int) -> socket.socket:
        sock: socket.socket = listen(host, port)
        prepare(sock)
        return sock

    vars(server)["listen"] = listen_like_the_others
    if library == "selectors":
        names = {"READ": selectors.EVENT_READ, "WRITE": selectors.EVENT_WRITE}
        vars(server).update(names, fastmux=types.SimpleNamespace(Poller=make_selector))
    server.run(server.main)


if __name__ == "__main__":
    main()
