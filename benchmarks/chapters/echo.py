"""Chapter echo: an echo server on selectors, with one import changed, on a Poller, and on other libraries."""

from __future__ import annotations

import sys

from benchmarks import servers

from .server_chapter import ServerChapter, Settings, Workload, echo

SIZE = 64  # bytes per message


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"{servers.__name__}.{module}", *arguments]


#: The first three run the same handlers.
SERVERS = {
    "fastmux.selectors": command("selectors_server", "fastmux.selectors"),
    "Poller": command("selectors_server", "Poller"),
    "selectors": command("selectors_server", "selectors"),
    **{name: command("asyncio_server", name, "protocol") for name in ("asyncio", "uvloop", "rloop")},
    "gevent": command("peer_server", "gevent"),
    "trio": command("peer_server", "trio"),
}
OTHERS = ("selectors", "asyncio", "uvloop", "rloop", "gevent", "trio")

CHAPTER = ServerChapter(
    "echo",
    [
        Workload(f"{connections:,} connection{'s' * (connections != 1)}", SERVERS, echo(connections, SIZE), quick)
        for connections, quick in ((10, False), (100, True), (1000, False))
    ],
    {"fastmux.selectors": OTHERS, "Poller": OTHERS},
    "Echo server on {} against {}",
    QUICK=Settings(rounds=3, seconds=0.1, quick=True),
    FULL=Settings(rounds=6, seconds=0.2, quick=False),
    connections=1000,
    remarks=(
        f"CPU time of the server process per message of {SIZE} bytes. The servers on fastmux.selectors, Poller and "
        "selectors run the same handlers, which call recv() and send(); those on asyncio, uvloop, rloop (Protocol), "
        "gevent and trio are idiomatic for their library.",
    ),
)
