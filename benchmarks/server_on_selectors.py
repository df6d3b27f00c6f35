"""examples/queued_echo_server.py with the standard library's EpollSelector in the place of fastmux.Poller.

The same handlers, the same system calls; nothing of fastmux runs while it serves. It cannot pause listening, which
the benchmark never makes it do.
"""

from __future__ import annotations

import importlib
import selectors
import sys
import types
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "queued_echo_server.py"


def make_selector(mechanism: str) -> selectors.BaseSelector:
    return selectors.EpollSelector()


def main() -> None:
    sys.path.insert(0, str(PROGRAM.parent))
    server = importlib.import_module(PROGRAM.stem)
    names = {"READ": selectors.EVENT_READ, "WRITE": selectors.EVENT_WRITE}
    vars(server).update(names, fastmux=types.SimpleNamespace(Poller=make_selector))
    server.run(server.main)


if __name__ == "__main__":
    main()
