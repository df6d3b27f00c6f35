"""Measurements of single calls, for the chapters micro and mirrors.

Each runs in fresh processes, because what is imported and what lies on the heap changes the figures; in more than one,
because each process has its own luck with the layout of its memory.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from . import machine, process
from .results import Progress, Results

#: candidate -> nanoseconds per call, round by round
Times = dict[str, list[float]]


@dataclass
class Settings:
    processes: int  # per measurement
    rounds: int  # per process
    batch: float  # seconds per candidate and round


QUICK = Settings(processes=2, rounds=30, batch=0.003)
FULL = Settings(processes=6, rounds=60, batch=0.004)


@dataclass
class Measurements:
    chapter: str
    #: The module of this package that makes the candidates.
    module: str
    settings: Settings
    results: Results
    progress: Progress
    floor: Path | None = None

    def measure(self, group: str, registered: int, ready: int) -> Times:
        """Run a group of candidates; {} if so many sockets cannot be opened, which is then noted."""
        found: Times = {}
        name = f"{group}, {ready} ready" if ready == registered else f"{group}, {ready} of {registered} ready"
        if (needed := 2 * registered + 64) > machine.descriptor_limit():
            self.results.note(
                f"{registered} sockets at a time are left out: that needs {needed} open files, and the hard limit "
                f"(ulimit -Hn) is {machine.descriptor_limit()}."
            )
            for _ in range(self.settings.processes):
                self.progress(f"{name}: left out")
            return found
        task = {"group": group, "registered": registered, "ready": ready, "floor": self.floor and str(self.floor)}
        task |= {"rounds": self.settings.rounds, "batch": self.settings.batch}
        command = [sys.executable, "-m", f"{__package__}.{self.module}", json.dumps(task)]
        for _ in range(self.settings.processes):
            self.progress(name)
            for candidate, times in json.loads(process.run(command)).items():
                found.setdefault(candidate, []).extend(times)
        self.results.raw.setdefault(self.chapter, {})[name] = found
        return found
