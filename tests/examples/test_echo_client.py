"""examples/echo_client.py against examples/echo_server.py: in a terminal and in pipelines."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

import fastmux

from .conftest import command, content
from .crowd import TIMEOUT

NAME = "echo_client"


@pytest.fixture(params=fastmux.Poller.mechanisms)
def mechanism(request):
    return ["--mechanism", request.param]


@pytest.fixture
def server(start):
    return start("echo_server")


def port_of(server) -> list[str]:
    return ["--port", str(server.address[1])]


def test_lines_typed_in_a_terminal_come_back(open_terminal, server, mechanism):
    terminal = open_terminal(NAME, *port_of(server), *mechanism)
    terminal.expect(f"connected to 127.0.0.1:{server.address[1]}; Ctrl-D ends\r\n")

    for line in ("hello", "twice", "two\nlines"):
        terminal.type(line + "\n")
        shown = line.replace("\n", "\r\n") + "\r\n"
        terminal.expect(shown)  # echo of the terminal
        terminal.expect(shown)  # echo of the server
    terminal.type("\x04")

    assert terminal.status() == 0


@pytest.mark.parametrize("how", ["key", "signal"])
def test_an_interrupt_ends_it_in_one_line(open_terminal, server, how):
    terminal = open_terminal(NAME, *port_of(server))
    terminal.expect("Ctrl-D ends\r\n")

    if how == "key":
        terminal.type("\x03")
    else:
        terminal.process.terminate()

    terminal.expect("interrupted\r\n")
    assert terminal.status() == 128 + (signal.SIGINT if how == "key" else signal.SIGTERM)


def test_output_of_the_server_shows_without_any_input(open_terminal, mechanism):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        terminal = open_terminal(NAME, "--port", str(listener.getsockname()[1]), *mechanism)
        listener.settimeout(TIMEOUT)
        peer, _ = listener.accept()
    with peer:
        peer.sendall(b"by the way\n")
        terminal.expect("by the way\r\n")
    terminal.expect("the server has closed the connection\r\n")
    assert terminal.status() == 1


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_20_mebibytes_make_an_exact_copy(server, mechanism, tmp_path, source):
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.write_bytes(content(20 << 20))
    program = command(NAME, *port_of(server), *mechanism)
    shell = '"$@" < "$0"' if source == "file" else 'cat "$0" | "$@"'
    with copy.open("wb") as out:
        finished = subprocess.run(["bash", "-c", shell, str(original), *program], stdout=out, timeout=TIMEOUT)

    assert finished.returncode == 0
    assert copy.read_bytes() == original.read_bytes()


def test_without_a_server_it_says_so_in_one_line(run_example):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finished = run_example(NAME, "--port", str(port))

    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == f"cannot connect to 127.0.0.1:{port}: Connection refused\n"
