"""Every example program: options, messages, signals and descriptors."""

from __future__ import annotations

import ast
import os
import resource
import select
import signal
import socket
from pathlib import Path

import pytest

from .conftest import EXAMPLES, MECHANISMS
from .crowd import TIMEOUT

PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "serving")
SERVERS = ["watch_browser", "watch_ports", "echo_server", "queued_echo_server", "chat_server", "prefork_server"]
#: A request to each server that it answers with at least a byte.
REQUESTS = dict.fromkeys(SERVERS, b"x") | {"watch_browser": b"GET / HTTP/1.1\r\n\r\n", "watch_ports": b"\n\n"}


def has_loopback_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_shows_the_docstring_and_the_options(run_example, name):
    finished = run_example(name, "--help")

    assert (finished.returncode, finished.stderr) == (0, "")
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert docstring is not None
    assert "What to notice:" in docstring
    assert docstring in finished.stdout
    options = ["--mechanism", *(["--host", "--port"] if name != "watch_stdin" else [])]
    for option in options + (["--edge"] if name in SERVERS else []):
        assert f"  {option} " in finished.stdout


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "epoll"])
@pytest.mark.parametrize("name", SERVERS)
def test_edge_is_refused_without_epoll(run_example, name, mechanism):
    finished = run_example(name, "--port", "0", "--mechanism", mechanism, "--edge")

    assert (finished.returncode, finished.stdout) == (2, "")
    message = f"--edge needs epoll: {mechanism} keeps no state between calls, so nothing is new to it\n"
    assert finished.stderr.endswith(f"{name}.py: error: {message}")


@pytest.mark.parametrize("name", SERVERS)
def test_a_port_that_is_taken_is_named_in_one_line(run_example, name):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        finished = run_example(name, "--port", str(taken))

    message = f"cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (1, "", message)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--port", "0", "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1:0: Cannot assign requested address\n"),
        (["--port", "70000"], 2, "argument --port: 70000 is not a number from 0 to 65535\n"),
        (["--port", "http"], 2, "argument --port: http is not a number from 0 to 65535\n"),
        (["--mechanism", "kqueue"], 2, "argument --mechanism: invalid choice: 'kqueue'"),
    ],
    ids=["not our address", "no such port", "no number", "no such mechanism"],
)
def test_an_impossible_option_is_reported(run_example, options, status, message):
    finished = run_example("echo_server", *options)

    assert (finished.returncode, finished.stdout) == (status, "")
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("queued_echo_server", "--queue-limit", "0", "0 is not a positive integer"),
        ("queued_echo_server", "--idle-timeout", "nan", "nan is not a number from 0 to a million"),
        ("chat_server", "--queue-limit", "-1", "-1 is not a positive integer"),
        ("prefork_server", "--processes", "0", "0 is not a positive integer"),
        ("prefork_server", "--grace", "inf", "inf is not a number from 0 to a million"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(run_example, name, option, value, message):
    finished = run_example(name, "--port", "0", option, value)

    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.endswith(f"error: argument {option}: {message}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("name", SERVERS)
def test_a_signal_ends_it_at_once_with_a_line(start, name, number):
    server = start(name)

    status, out, err = server.end(number)

    assert (status, err) == (0, "")
    assert " 0 " in f" {out.splitlines()[-1]} "


@pytest.mark.skipif(not has_loopback_ipv6(), reason="no IPv6 here")
def test_it_listens_on_ipv6_as_well(start, connect):
    server = start("echo_server", "--host", "::1")
    client = connect(server)
    client.sendall(b"six")
    assert client.recv(3) == b"six"


@pytest.mark.parametrize("name", SERVERS)
def test_without_a_free_descriptor_it_does_not_spin(start, connect, name):
    """prefork_server runs with one process, because each process has its own limit."""
    server = start(name, *(["--processes", "1"] if name == "prefork_server" else []))
    first = connect(server)
    first.sendall(REQUESTS[name])
    pid = server.pid
    if name == "chat_server":
        assert server.line().endswith(" joins")
    else:
        assert first.recv(1)
    if name == "prefork_server":
        (pid,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, used))
    second = connect(server)  # pending in the kernel
    second.sendall(REQUESTS[name])

    before = server.cpu_seconds(pid)
    assert not select.select([second], [], [], 0.3)[0]
    assert server.cpu_seconds(pid) - before < 0.15

    first.close()
    if name == "chat_server":
        while not server.line().endswith(" joins"):
            pass
    else:
        assert second.recv(1)


def test_a_pause_of_accepts_ends_by_itself_and_clients_are_served_meanwhile(start, way, connect):
    server = start("echo_server", *way)
    first = connect(server)
    first.sendall(b"x")
    assert first.recv(1)
    used = server.descriptors()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, hard))
    second = connect(server)
    second.sendall(b"y")
    before = server.cpu_seconds()
    assert not select.select([second], [], [], 0.3)[0]
    first.sendall(b"x")
    assert first.recv(1) == b"x"
    assert server.cpu_seconds() - before < 0.15

    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (hard, hard))

    assert second.recv(1) == b"y"


@pytest.mark.parametrize("name", SERVERS)
def test_a_closed_output_ends_it_quietly(start, name):
    server = start(name, *(["--grace", "0"] if name == "prefork_server" else []))
    if name == "prefork_server":
        server.line()
    server.process.stdout.close()
    server.process.stdout = None
    with socket.create_connection(server.address, timeout=TIMEOUT):
        if name in ("echo_server", "queued_echo_server", "prefork_server"):  # no output before the end
            server.process.terminate()
        _, err = server.process.communicate(timeout=TIMEOUT)

    assert (server.process.returncode, err) == (128 + signal.SIGPIPE, "")
