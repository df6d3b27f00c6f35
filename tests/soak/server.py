"""The server process: started by its command line, measured in /proc, stopped by a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "queued_echo_server.py"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
#: Makes the GNU C library return freed memory at once. By default the resident set stays at its random peak.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
#: The last line of its output.
FAREWELL = re.compile(
    r"served (?P<served>\d+) clients \((?P<connected>\d+) still connected, (?P<broken>\d+) broken off, "
    r"(?P<idle>\d+) idle for too long\), echoed (?P<echoed>\d+) bytes"
)


class Server:
    """The queued echo server in a session of its own, without the Ctrl-C of the terminal."""

    def __init__(self, *options: str) -> None:
        self.command = [sys.executable, str(PROGRAM), "--port", "0", *options]
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise OSError(f"the server does not start: {self.kill()}")
        host, _, port = line.removeprefix("listening on ").rpartition(":")
        self.address = (host, int(port))
        self._files = Path(f"/proc/{self.process.pid}")

    def descriptors(self) -> int:
        return len(os.listdir(self._files / "fd"))

    def memory(self) -> int:
        """Return the resident set in bytes."""
        return int((self._files / "statm").read_text().split()[1]) * PAGE

    def cpu_seconds(self) -> float:
        fields = (self._files / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def alive(self) -> bool:
        return self.process.poll() is None

    def come_to_rest(self, descriptors: int, timeout: float) -> None:
        """Wait until at most so many descriptors are open, or for so many seconds."""
        deadline = time.monotonic() + timeout
        while self.alive() and self.descriptors() > descriptors and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> tuple[dict[str, int], list[str]]:
        """Stop the server; return its counts, and the failures of its exit."""
        self.process.send_signal(signal.SIGTERM)
        try:
            out, err = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            return {}, [f"the server does not end: {self.kill()}"]
        wrong = []
        if self.process.returncode != 0 or err:
            wrong.append(f"the server ended with status {self.process.returncode}: {err[-2000:]!r}")
        farewell = FAREWELL.fullmatch(out.strip())
        if farewell is None:
            wrong.append(f"the server's last line is {out!r}")
        return {name: int(text) for name, text in farewell.groupdict().items()} if farewell else {}, wrong

    def kill(self) -> str:
        """Kill the server; return its stderr."""
        self.process.kill()
        return self.process.communicate()[1][-2000:]
