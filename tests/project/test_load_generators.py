"""The load generators of the benchmarks: they count complete and right replies, and report all others."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATE = ROOT / "benchmarks" / "servers" / "localhost.pem"
TIMEOUT = 60
BODY = "Hello, world!\n"
RIGHT = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nServer: test\r\n\r\n{BODY}".encode()

pytest.importorskip("pyperf", reason="pip install '.[bench]'")
Reply = Callable[[socket.socket, bytes], object]


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(expression: str, *arguments: str) -> Any:
    """Evaluate an expression of a fresh interpreter that uses the control of the generators."""
    program = (
        "import json, sys; from pathlib import Path; from benchmarks.load.generator import Load, libssl; "
        f"print(json.dumps({expression}))"
    )
    return json.loads(run(sys.executable, "-c", program, *arguments))


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> program."""
    place = str(tmp_path_factory.mktemp("generators"))
    commands, reason = evaluate(
        "(lambda load: [load.commands, load.fallback_reason])(Load.build(Path(sys.argv[1])))", place
    )
    assert reason is None
    return {name: command for name, (command,) in commands.items()}


@contextlib.contextmanager
def serving(reply: Reply, context: ssl.SSLContext | None = None) -> Iterator[list[str]]:
    """Serve one connection after the other in a thread: reply() gets each piece that arrives. Yields the address."""

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return  # closed
            with contextlib.suppress(OSError), context.wrap_socket(client, True) if context else client as connection:
                while data := connection.recv(65536):
                    reply(connection, data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield [str(part) for part in listening.getsockname()]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def drive(command: Callable[[str], list[str]]) -> dict[str, float]:
    """Run a generator for so many seconds that at least one reply counts, on a machine however busy."""
    for seconds in ("0.05", "0.5", "5"):
        found: dict[str, float] = json.loads(run(*command(seconds)))
        if found["requests"] or found["errors"] or found["wrong"]:
            return found
    raise AssertionError(f"no reply within {seconds} s")


def drive_http(program: str, address: list[str], connections: int, pid: int, *library: str) -> dict[str, float]:
    return drive(lambda seconds: [program, *address, str(connections), seconds, str(pid), BODY, *library])


def load_http(generators: dict[str, str], reply: Reply) -> dict[str, float]:
    with serving(reply) as address:
        return drive_http(generators["http"], address, 1, os.getpid())


def test_right_replies_are_counted(generators):
    found = load_http(generators, lambda client, data: client.sendall(RIGHT))

    assert found["requests"] > 0
    assert (found["errors"], found["wrong"]) == (0, 0)
    assert 0 < found["median_ns"] <= found["p99_ns"]


def test_a_reply_may_arrive_in_pieces(generators):
    def reply(client: socket.socket, data: bytes) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(RIGHT)):
            client.sendall(RIGHT[place : place + 1])

    found = load_http(generators, reply)

    assert (found["requests"] > 0, found["errors"], found["wrong"]) == (True, 0, 0)


@pytest.mark.parametrize(
    "reply",
    [
        RIGHT.replace(b"200", b"500"),
        RIGHT.replace(b"world", b"World"),
        RIGHT.replace(b"14", b"13"),
        RIGHT.replace(b"Content-Length: 14\r\n", b""),
        RIGHT + b"!",
    ],
    ids=["status", "body", "length", "no length", "too much"],
)
def test_a_wrong_reply_is_reported(generators, reply):
    found = load_http(generators, lambda client, data: client.sendall(reply))

    assert (found["errors"], found["wrong"]) == (1, 1)


def test_a_reply_without_an_end_is_reported(generators):
    found = load_http(generators, lambda client, data: client.sendall(b"x" * 5000))

    assert (found["requests"], found["errors"]) == (0, 1)


def test_a_closed_connection_is_reported(generators):
    found = load_http(generators, lambda client, data: client.shutdown(socket.SHUT_RDWR))

    assert (found["requests"], found["errors"], found["wrong"]) == (0, 1, 0)


def test_encrypted_replies_are_read_by_the_library_of_the_ssl_module(generators):
    library = evaluate("libssl()")
    if library is None:
        pytest.skip("no libssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def reply(client: socket.socket, data: bytes) -> None:
        for place in range(0, len(RIGHT), 30):  # several records
            client.sendall(RIGHT[place : place + 30])

    with serving(reply, context) as address:
        found = drive_http(generators["http"], address, 1, os.getpid(), library)

    assert (found["requests"] > 0, found["errors"], found["wrong"]) == (True, 0, 0)


def test_a_library_that_is_missing_is_named(generators):
    command = [generators["http"], "127.0.0.1", "1", "1", "1", str(os.getpid()), BODY, "libmissing.so"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert done.returncode == 3
    assert "libmissing.so" in done.stderr


@pytest.fixture(params=["C", "Python"])
def echo_generator(request: pytest.FixtureRequest, generators: dict[str, str]) -> list[str]:
    fallback = [sys.executable, str(ROOT / "benchmarks" / "load" / "echo_fallback.py")]
    return [generators["echo"]] if request.param == "C" else fallback


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data, (True, False, 0)),
        (lambda data: data.swapcase(), (False, True, 1)),
        (lambda data: data[:-1], (False, True, 0)),
    ],
    ids=["right", "changed", "too short"],
)
def test_echoes_are_compared(echo_generator, change, expected):
    def reply(client: socket.socket, data: bytes) -> None:
        changed = change(data)
        client.sendall(changed)
        if len(changed) < len(data):
            client.shutdown(socket.SHUT_WR)

    with serving(reply) as address:
        found = drive(lambda seconds: [*echo_generator, *address, "1", "64", seconds, str(os.getpid())])

    assert (found["requests"] > 0, found["errors"] + found["wrong"] > 0, found["wrong"]) == expected


@contextlib.contextmanager
def running(module: str, *arguments: str) -> Iterator[tuple[list[str], int]]:
    """Run a server of the benchmarks; yields its address and its process ID."""
    command = [sys.executable, "-m", f"benchmarks.servers.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip().split(":"), process.pid
        finally:
            process.terminate()


@pytest.mark.parametrize("tls", [[], ["tls"]], ids=["plain", "TLS"])
@pytest.mark.parametrize("server", ["protocol", "uvicorn", "aiohttp"])
@pytest.mark.parametrize("loop", ["fastmux", "fastmux gather_writes", "asyncio"])
def test_the_servers_of_the_benchmarks_reply_correctly(generators, loop, server, tls):
    if server != "protocol":
        pytest.importorskip(server, reason="pip install '.[bench]'")
    library = [evaluate("libssl()")] if tls else []
    if library == [None]:
        pytest.skip("no libssl")
    with running("http_server", loop, server, *tls) as (address, pid):
        found = drive_http(generators["http"], address, 20, pid, *library)

    assert (found["errors"], found["wrong"]) == (0, 0)


@pytest.mark.parametrize("library", ["selectors", "fastmux.selectors", "Poller"])
def test_the_echo_server_keeps_what_a_socket_does_not_take(generators, library):
    """Messages of 1 MiB fill the buffers of a socket."""
    with running("selectors_server", library) as (address, pid):
        found = drive(lambda seconds: [generators["echo"], *address, "3", str(1 << 20), seconds, str(pid)])

    assert (found["errors"], found["wrong"]) == (0, 0)
