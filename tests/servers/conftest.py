"""Real servers as child processes. They come from the extra ``all-servers``; ``nox -s servers`` runs these tests.

Without the extra they are skipped; FASTMUX_REQUIRE_TOOLS=1 makes this a failure.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

APPS = Path(__file__).with_name("apps")
#: Seconds after which a test gives up.
TIMEOUT = 120.0


def missing_packages() -> list[str]:
    """Return the packages of the extras that are not installed."""
    missing = []
    for requirement in importlib.metadata.requires("fastmux-io") or ():
        if found := re.match(r"([\w-]+).*extra == .(?:all-)?servers", requirement):
            try:
                importlib.metadata.version(found[1])
            except importlib.metadata.PackageNotFoundError:
                missing.append(found[1])
    return missing


@pytest.fixture(scope="session", autouse=True)
def servers_are_installed() -> None:
    if not os.environ.get("FASTMUX_REQUIRE_TOOLS") and (missing := missing_packages()):
        pytest.skip(f"no {missing[0]} here, for example (pip install '.[all-servers]')")


@pytest.fixture
def port(free_ports: Callable[[int], contextlib.AbstractContextManager[list[int]]]) -> Iterator[int]:
    with free_ports(1) as [port]:
        yield port


class Server:
    """A server process and its children, which are a session of their own."""

    def __init__(self, port: int, output: Path, args: list[str], **options: Any) -> None:
        self.port = port
        self._output = output
        with open(output, "w") as file:
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, **options
            )

    def output(self) -> str:
        """Return what the processes have written so far."""
        return self._output.read_text()

    def fetch(self, path: str = "/") -> str:
        """Get a page, as soon as the server answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=TIMEOUT) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                pytest.fail(f"{error}: {error.read().decode()}\n{self.output()}")
            except (OSError, urllib.error.URLError):
                assert self.process.poll() is None, self.output()
                assert time.monotonic() < deadline, self.output()
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Send a signal, wait for the end of the process, and return the output."""
        self.process.send_signal(number)
        self.process.wait(TIMEOUT)
        return self.output()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start_server(tmp_path: Path, port: int) -> Iterator[Callable[..., Server]]:
    """Start a command that serves on the port, with options of subprocess.Popen."""
    servers: list[Server] = []

    def start(args: list[str], **options: Any) -> Server:
        servers.append(Server(port, tmp_path / "output", args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def start(start_server: Callable[..., Server], port: int) -> Callable[..., Server]:
    """Start ``python ARGUMENTS`` in the folder of the applications; PORT in an argument stands for a free port."""
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": "/tmp"}

    def start(*arguments: str, **more: str) -> Server:
        command = [sys.executable, *(argument.replace("PORT", str(port)) for argument in arguments)]
        return start_server(command, cwd=APPS, env={**os.environ, **variables, **more})

    return start
