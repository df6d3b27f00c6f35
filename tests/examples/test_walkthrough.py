"""docs/walkthrough.md: the printed commands have the printed output, and the pictures are correct.

Also the links of all pages.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmux

from .conftest import receive
from .crowd import TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "walkthrough.md"
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]}
#: Commands that start a server.
SERVING = re.compile(r"^python examples/(\w+_server|watch_browser|watch_ports)\.py (?!.*--compare)(?!.*--edge --mech)")


def blocks(section: str) -> list[tuple[str, str]]:
    """Return language and text of the fenced blocks of a section."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """Return the anchors of a page."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pattern(text: str) -> str:
    """Return a pattern of printed text with any numbers."""
    return re.sub(r"\d+", r"\\d+", re.escape(text.rstrip("\n")))


class Shell:
    """Runs commands as printed. `python` is the interpreter of this test."""

    def __init__(self, bin_path: Path) -> None:
        wrapper = bin_path / "python"  # a link would not find the packages of a virtual environment
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        wrapper.chmod(0o755)
        path = f"{bin_path}:{os.environ['PATH']}"
        self.how = {"cwd": ROOT, "env": {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}, "text": True}
        self.servers: list[subprocess.Popen[str]] = []

    def run(self, commands: str) -> str:
        finished = subprocess.run(
            ["bash", "-c", commands],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
            **self.how,
        )
        assert "Traceback" not in finished.stdout
        return finished.stdout

    def serve(self, command: str) -> None:
        """Start a server, and return when it listens on all ports."""
        ports = [int(port) for port in re.search(r"--port ([\d ]+)", command)[1].split()]
        deadline = time.monotonic() + TIMEOUT
        while not all(free(port) for port in ports):
            assert time.monotonic() < deadline, f"port {ports} is in use"
            time.sleep(0.1)
        server = subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, **self.how)
        self.servers.append(server)
        assert server.stdout is not None
        for port in ports:
            assert server.stdout.readline() == f"listening on 127.0.0.1:{port}\n"

    def interrupt(self) -> None:
        """End the servers with Ctrl-C."""
        for server in self.servers:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=TIMEOUT)
            assert server.returncode == 0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    try:
        yield opened
        opened.interrupt()
    finally:
        for server in opened.servers:
            server.kill()
            server.communicate()


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_a_section_do_what_is_printed_below_them(shell, section):
    output = ""
    for language, text in blocks(section):
        if language == "sh" and SERVING.match(text):
            shell.serve(text.strip())
        elif language == "sh":
            output = shell.run(text)
        elif language == "text":
            assert re.search(f"^{pattern(text)}$", output, re.MULTILINE), output


def test_the_blocking_server_serves_one_client_at_a_time(shell, tmp_path, connect):
    ((language, program),) = blocks("1. One blocking socket")
    assert language == "python"
    (tmp_path / "blocking.py").write_text(program)
    with subprocess.Popen([sys.executable, str(tmp_path / "blocking.py")]) as server:
        try:
            deadline = time.monotonic() + TIMEOUT
            while free(7000):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            first = second = None
            while first is None:  # bound, but not listening yet
                assert time.monotonic() < deadline
                with contextlib.suppress(ConnectionRefusedError):
                    first = connect(("127.0.0.1", 7000))
            first.sendall(b"one")
            assert receive(first, 3) == b"one"
            second = connect(("127.0.0.1", 7000))
            second.sendall(b"two")
            assert not select.select([second], [], [], 0.2)[0]
            first.close()
            assert receive(second, 3) == b"two"
        finally:
            server.kill()


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        if own := re.match(
            r"https://(?:github\.com/fastmux/fastmux/blob|raw\.githubusercontent\.com/\S+?)/main/(.+)", path
        ):
            goal = ROOT / own[1]  # the README has absolute links, for the package index
        if own or "://" not in target:
            assert goal.exists(), target
            assert not anchor or anchor in headings(goal), target


def test_every_example_is_on_the_page():
    text = PAGE.read_text()
    for path in (ROOT / "examples").glob("*.py"):
        assert f"](../examples/{path.name})" in text


def test_the_pictures_are_what_the_script_draws(tmp_path):
    script = runpy.run_path(str(ROOT / "docs" / "draw.py"))
    for name in ("calls", "triggers", "journey"):
        script[f"draw_{name}"](tmp_path / name)
        assert (tmp_path / name).read_text() == (PAGE.parent / f"{name}.svg").read_text()


@pytest.mark.skipif("epoll" not in fastmux.Poller.mechanisms, reason="edge-triggering needs epoll")
def test_sockets_are_reported_as_the_picture_of_the_triggers_says(make_socketpair):
    for name, reader, amounts, reports in runpy.run_path(str(ROOT / "docs" / "draw.py"))["TRIGGERS"]:
        ours, theirs = make_socketpair()
        with fastmux.Poller("epoll") as poller:
            poller.register(ours, fastmux.READ | (fastmux.EDGE if name == "edge-triggered" else 0))
            for step, amount in enumerate(amounts):
                if step in (1, 5):
                    theirs.send(b"x" * (100 if step == 1 else 30))
                found = len(ours.recv(1000, socket.MSG_PEEK)) if amount else 0
                reported = bool(poller.poll(0))
                assert (found, reported) == (amount, step in reports), (name, reader, step)
                if reported:
                    ours.recv(40)
                    with contextlib.suppress(BlockingIOError):
                        while reader == "reads until it would block":
                            ours.recv(40)
