"""Real services as child processes, and contexts for TLS. Their clients come from the extra ``services``.

``nox -s services`` runs these tests, on the event loop and, for comparison, on the standard one. Without a program or a
package, its tests are skipped; for a program, FASTMUX_REQUIRE_TOOLS=1 makes this a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import glob
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fastmux

#: Seconds after which a test gives up.
TIMEOUT = 50.0
FOLDERS = [*os.get_exec_path(), "/usr/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]


@pytest.fixture(params=[fastmux.EventLoop, asyncio.SelectorEventLoop], ids=["fastmux", "standard"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Any]]:
    """Run a coroutine on an event loop: fastmux's or the standard one. What the loop reports fails the test."""
    reports: list[dict[str, Any]] = []
    loop = request.param()
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def run_main(main: Any) -> Any:
        return loop.run_until_complete(asyncio.wait_for(main, TIMEOUT))

    yield run_main
    tasks = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    gc.collect()  # reports of destructors
    loop.close()
    assert not tasks
    assert not reports


# TLS


class Certificates(NamedTuple):
    """An authority, and the certificate and the key of localhost, as files and as contexts."""

    authority: str
    chain: str
    key: str
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate.configure_cert(server)
    authority.configure_trust(client)
    with service_folder() as folder:
        files = [str(folder / name) for name in ("authority", "chain", "key")]
        authority.cert_pem.write_to_path(files[0])
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(files[1], append=True)
        certificate.private_key_pem.write_to_path(files[2])
        yield Certificates(*files, server, client)


# Programs

#: PostgreSQL refuses to run as root.
ACCOUNT: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}


def find_program(name: str, package: str) -> str:
    if program := shutil.which(name, path=os.pathsep.join(FOLDERS)):
        return program
    missing = f"no {name} here (Debian: apt-get install {package})"
    if os.environ.get("FASTMUX_REQUIRE_TOOLS"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextlib.contextmanager
def service_folder() -> Iterator[Path]:
    """Create a folder that a service may use from its own account, with a path short enough for a UNIX socket."""
    with tempfile.TemporaryDirectory(prefix="fastmux-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


class Service:
    """A process that serves until the end of the with block."""

    def __init__(self, args: list[str], folder: Path, **options: Any) -> None:
        self._output = folder / "output"
        with open(self._output, "w") as file:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGINT)  # PostgreSQL does not wait for its clients
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()

    def wait_for(self, address: Any) -> Service:
        """Return as soon as the service accepts a connection on the port or the path."""
        unix = isinstance(address, Path)
        deadline = time.monotonic() + TIMEOUT
        while True:
            with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
                if client.connect_ex(str(address) if unix else ("127.0.0.1", address)) == 0:
                    return self
            assert self.process.poll() is None, self._output.read_text()
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(0.02)
