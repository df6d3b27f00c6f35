"""Real servers as child processes. They come from the extra ``servers``; ``nox -s servers`` runs these tests.

Without the extra they are skipped; FASTMUX_REQUIRE_TOOLS=1 makes this a failure."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

APPS = Path(__file__).with_name("apps")
#: Seconds after which a test gives up.
TIMEOUT = 120.0
#: Ports that the kernel does not give to clients (net.ipv4.ip_local_port_range).
PORTS = range(20000, 32000)

#: Modules of the extra.
MODULES = (
    "aiohttp",
    "anyio",
    "daphne",
    "django",
    "granian",
    "gunicorn",
    "hypercorn",
    "pytest_asyncio",
    "sanic",
    "uvicorn",
)
MODULES += ("uvicorn_worker", "uvloop")


@pytest.fixture(scope="session", autouse=True)
def servers_are_installed() -> None:
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing and not os.environ.get("FASTMUX_REQUIRE_TOOLS"):
        pytest.skip(f"no {', '.join(missing)} here (pip install '.[servers]')")


@pytest.fixture
def port() -> Iterator[int]:
    """A free TCP port of the loopback interface. The name of a socket keeps it from tests in other processes."""
    with contextlib.ExitStack() as stack:
        while True:
            port = random.choice(PORTS)
            claim = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                claim.bind(f"\0fastmux-tests-{port}")
                with socket.create_server(("127.0.0.1", port)):
                    break
            except OSError:
                claim.close()
        yield port


class Server:
    """A server process and its children, which are a session of their own."""

    def __init__(self, port: int, output: IO[str], command: list[str], environment: dict[str, str]) -> None:
        self.port = port
        self._output = output
        self.process = subprocess.Popen(
            command,
            cwd=APPS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def output(self) -> str:
        """Return what the processes have written so far."""
        return Path(self._output.name).read_text()

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

    def terminate(self) -> str:
        """Send SIGTERM, wait for the end of the process, and return the output."""
        self.process.terminate()
        self.process.wait(TIMEOUT)
        return self.output()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Callable[..., Server]]:
    """Start ``python ARGUMENTS`` in the folder of the applications; PORT in an argument stands for a free port."""
    servers: list[Server] = []
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": "/tmp"}

    def start(*arguments: str, **more: str) -> Server:
        command = [sys.executable, *(argument.replace("PORT", str(port)) for argument in arguments)]
        with open(tmp_path / "output", "w") as output:
            servers.append(Server(port, output, command, {**os.environ, **variables, **more}))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
