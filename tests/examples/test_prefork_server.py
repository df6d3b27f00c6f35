"""examples/prefork_server.py: one socket, several processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from .conftest import MECHANISMS, content, receive
from .crowd import TIMEOUT

NAME = "prefork_server"


def processes_of(server) -> list[int]:
    """Return the serving processes, once all are running."""
    assert " processes, with" in (line := server.line()), line
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def wait_until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wake_ups(out: str) -> dict[str, int]:
    return {how: int(count) for how, count in re.findall(r"^(with|without) EXCLUSIVE: (\d+) wake-ups$", out, re.M)}


@pytest.mark.parametrize("edge", [[], ["--edge"]], ids=["level", "edge"])
def test_exclusive_wakes_fewer_processes(run_example, edge):
    finished = run_example(NAME, "--port", "0", "--processes", "4", "--compare", "200", *edge)

    assert (finished.returncode, finished.stderr) == (0, "")
    counted = wake_ups(finished.stdout)
    # On an idle machine four times as many. On a busy one, a process that is still awake is not woken.
    assert counted["with"] < counted["without"], finished.stdout


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "epoll"])
def test_without_epoll_it_counts_and_says_what_is_not_possible(run_example, mechanism):
    finished = run_example(NAME, "--port", "0", "--processes", "4", "--compare", "50", "--mechanism", mechanism)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert list(wake_ups(finished.stdout)) == ["without"]
    assert f"with EXCLUSIVE: not possible with {mechanism}, which keeps no state between calls\n" in finished.stdout


def test_1000_clients_are_served_by_the_processes_together(start, way, crowd):
    server = start(NAME, *way, "--processes", "3")
    for number in range(1000):
        crowd.add(server.address, content(2000, number))

    crowd.run()

    crowd.leave()
    status, out, err = server.end()
    assert (status, err) == (0, "")
    counts = [int(count) for count in re.findall(r"^process \d+: (\d+) connections, woken \d+ times$", out, re.M)]
    assert len(counts) == 3
    assert sum(counts) == 1000
    assert out.endswith("served 1000 clients\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_lets_connected_clients_finish(start, way, connect, number):
    server = start(NAME, *way, "--processes", "2", "--grace", "30")
    client = connect(server)
    client.sendall(b"before")
    assert receive(client, 6) == b"before"

    server.process.send_signal(number)

    def refused() -> bool:
        try:
            socket.create_connection(server.address).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refused)
    client.sendall(b"after")
    assert receive(client, 5) == b"after"
    client.close()
    out, err = server.process.communicate(timeout=TIMEOUT)
    assert (server.process.returncode, err) == (0, "")
    assert "served " in out


def test_a_signal_to_every_process_is_graceful_too(start, connect):
    server = start(NAME, "--processes", "2")
    processes = processes_of(server)
    client = connect(server)
    client.sendall(b"before")
    assert receive(client, 6) == b"before"

    for pid in (server.pid, *processes):  # as Ctrl-C in a terminal does
        os.kill(pid, signal.SIGINT)
    client.sendall(b"after")
    assert receive(client, 5) == b"after"
    client.close()

    out, err = server.process.communicate(timeout=TIMEOUT)
    assert (server.process.returncode, err) == (0, "")
    assert out.endswith("served 1 client\n")


def test_grace_has_an_end(start, connect):
    server = start(NAME, "--grace", "0.1")
    client = connect(server)
    client.sendall(b"stays")
    assert receive(client, 5) == b"stays"

    status, out, err = server.end()
    assert (status, err) == (0, "")
    assert out.endswith("served 1 client\n")
    assert receive(client, 1) == b""


def test_a_process_that_is_killed_is_reported_and_the_others_go_on(start, connect):
    server = start(NAME, "--processes", "2")
    victim, other = processes_of(server)

    os.kill(victim, signal.SIGKILL)

    assert server.line() == f"process {victim} was ended by SIGKILL"
    client = connect(server)
    client.sendall(b"served")
    assert receive(client, 6) == b"served"
    client.close()
    os.kill(other, signal.SIGKILL)
    out, err = server.process.communicate(timeout=TIMEOUT)
    assert (server.process.returncode, err) == (1, "")
    assert f"process {other} was ended by SIGKILL\n" in out


def test_processes_do_not_outlive_their_parent(start):
    server = start(NAME, "--processes", "3")
    processes = processes_of(server)
    assert len(processes) == 3

    server.end(signal.SIGKILL)

    wait_until(lambda: not any(alive(pid) for pid in processes))
