"""A soak test: the queued echo server for a long time under clients that connect, talk, and close or reset.

    python tests/soak --minutes 30 --connections 8000

Every byte is counted. The test fails (status 1) if a byte is missing, duplicated or wrong, if the server's number of
open descriptors at rest changes, or if its memory grows: at rest, without clients, from the end of the warm-up to the
end; and under load, from the first quarter of the time to the last. Ctrl-C ends it early, with a report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import scripts
from load import Load
from server import Server
from verdict import MIB, judge, memory_limit, quarters

import fastmux

#: An upper limit of the descriptors of either process that are no connections.
OTHERS = 100
#: Seconds for all clients to finish.
TIMEOUT = 60.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tests/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="a fifth of it, or a minute, is the warm-up (default: 1)"
    )
    parser.add_argument("--connections", type=int, default=1000, metavar="N", help="at a time (default: 1000)")
    parser.add_argument(
        "--pause",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="between messages of one connection, on average (default: 2)",
    )
    parser.add_argument("--mechanism", choices=fastmux.Poller.mechanisms, help="of the server (default: the best)")
    parser.add_argument("--edge", action="store_true", help="the server is edge-triggered")
    parser.add_argument("--seed", type=int, help="of all random numbers (default: a new one)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for the samples")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="file for their picture")
    args = parser.parse_args()
    if not (0 < args.minutes < 1e6 and 0 < args.pause < 1e6):
        parser.error("--minutes and --pause must be above 0")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by the server
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard - OTHERS
    if not 0 < args.connections <= most:
        parser.error(f"--connections must be from 1 to {most}, because of the hard limit of open files")
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(4), "little")
    return args


class Soak:
    """One run: its phases and their samples."""

    def __init__(self, args: argparse.Namespace, server: Server, show: Any) -> None:
        self.args = args
        self.server = server
        self.show = show
        self.load = Load(server.address, args.seed, args.pause, scripts.make_client)
        self.seconds = 60 * args.minutes
        self.interval = min(1.0, self.seconds / 60)
        self.interrupted = False
        self.began = time.monotonic()
        self.samples: list[dict[str, Any]] = []
        self.rest: dict[str, dict[str, int]] = {}
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def run(self) -> None:
        warm_up = min(self.seconds / 5, 60)
        self.note_rest("at the start")
        self.phase("warm-up", warm_up, warm_up / 2)
        self.note_rest("after warm-up")
        self.phase("load", self.seconds - warm_up, warm_up / 2)
        self.note_rest("at the end")

    def phase(self, name: str, seconds: float, rise: float) -> None:
        """Add clients over the seconds of the rise; keep their number; then let all finish."""
        load, wanted = self.load, self.args.connections
        began = now = time.monotonic()
        due = began + self.interval
        while now < began + seconds and not self.interrupted and not load.wrong and self.server.alive():
            load.wanted = max(1, min(wanted, int(wanted * (now - began) / rise)))
            load.turn(min(max(due - now, 0), 0.05))
            now = time.monotonic()
            if now >= due:
                due += self.interval
                self.sample(name if load.wanted == wanted else "rise")
        load.drain(TIMEOUT)

    def note_rest(self, when: str) -> None:
        """Record the descriptors and the memory of the server without clients."""
        if not self.server.alive():
            return
        self.server.come_to_rest(self.rest.get("at the start", {}).get("descriptors", 0), TIMEOUT if self.rest else 0.5)
        self.sample("rest")
        self.rest[when] = {name: self.samples[-1][name] for name in ("descriptors", "memory")}

    def sample(self, phase: str) -> None:
        load, server = self.load, self.server
        descriptors = server.descriptors()
        self.samples.append(
            {
                "seconds": round(time.monotonic() - self.began, 3),
                "phase": phase,
                "connections": len(load.clients),
                "descriptors": descriptors,
                "beside": descriptors - len(load.clients),
                "on_the_way": load.sent - load.received - load.lost,
                "memory": server.memory(),
                "server_cpu": server.cpu_seconds(),
                "load_cpu": round(time.process_time(), 2),
                **self.totals(),
            }
        )
        self.show(self.samples[-1])

    def totals(self) -> dict[str, int]:
        names = ("connected", "closed", "resets", "messages", "sent", "received", "lost")
        return {name: getattr(self.load, name) for name in names}

    def document(self, counts: dict[str, int]) -> dict[str, Any]:
        args = self.args
        return {
            "command": f"python tests/soak {' '.join(sys.argv[1:])}",
            "seed": args.seed,
            "server_command": " ".join(["python", "examples/queued_echo_server.py", *self.server.command[2:]]),
            "python": platform.python_version(),
            "fastmux": f"{fastmux.__version__} ({fastmux.implementation})",
            "kernel": platform.release(),
            "cpus": len(os.sched_getaffinity(0)),
            "interrupted": self.interrupted,
            "seconds": round(time.monotonic() - self.began, 1),
            "totals": self.totals(),
            "server": counts,
            "rest": self.rest,
            "quarters": quarters(self.samples),
            "samples": self.samples,
        }


def soak(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Run; return the measurements and the failures."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    options = [*(["--mechanism", args.mechanism] if args.mechanism else []), *(["--edge"] if args.edge else [])]
    server = Server(*options)
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TimeElapsedColumn()
    try:
        with Progress(*columns, transient=True, refresh_per_second=2) as progress:
            task = progress.add_task("", total=60 * args.minutes)

            def show(sample: dict[str, Any]) -> None:
                text = (f"{sample['phase']}: {sample['connections']:,} connections of {sample['connected']:,}, "
                        f"{sample['received'] / 1e9:.1f} GB, {sample['memory'] / MIB:.0f} MiB")  # fmt: skip
                progress.update(task, completed=sample["seconds"], description=text)

            run = Soak(args, server, show)
            run.run()
        counts, wrong = server.stop()
    finally:
        if server.alive():
            server.kill()
    document = run.document(counts)
    return document, run.load.wrong[:20] + wrong + judge(document)


def report(document: dict[str, Any], wrong: list[str]) -> None:
    totals, rest = document["totals"], document["rest"]
    print(f"{totals['connected']:,} connections ({totals['resets']:,} reset), {totals['messages']:,} messages, "
          f"{totals['sent']:,} bytes sent, {totals['received']:,} came back, {totals['lost']:,} lost in resets, "
          f"in {document['seconds']:,} s; seed {document['seed']}")  # fmt: skip
    for when, found in rest.items():
        print(f"at rest {when}: {found['descriptors']} descriptors, {found['memory'] / MIB:.1f} MiB")
    for which, found in document["quarters"].items():
        print(f"{which} quarter under load: {found['connections']:,g} connections, "
              f"{found['descriptors']:,g} descriptors, {found['memory'] / MIB:.1f} MiB with "
              f"{found['on_the_way'] / MIB:.0f} MiB on their way, "
              f"{found['memory apart from load'] / MIB:.1f} apart from that (medians)")  # fmt: skip
    if "after warm-up" in rest:
        limit = memory_limit(rest["after warm-up"]["memory"])
        print(f"at rest at the end, {limit / MIB:.1f} MiB would be too much")
    for text in wrong:
        print(f"WRONG: {text}")


def main() -> int:
    args = arguments()
    document, wrong = soak(args)
    report(document, wrong)
    if args.output:
        args.output.write_text(json.dumps({**document, "wrong": wrong}) + "\n")
    if args.picture:
        from picture import draw

        draw(args.picture, document)
    if document["interrupted"]:
        print("interrupted")
    return 1 if wrong else 130 if document["interrupted"] else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
