"""docs/with-your-server.md and the first lines of the README: every command with the real program, on our event loop.

A section of the page is about one program. Its code blocks are:

- a block whose first line is a comment with a name, such as ``# app.py``: the file of this name. The files above the
  first section are in all sections.
- ``console server``: commands, the last of which runs a server. Its answer is the class of its event loop, unless a
  ``console`` block follows.
- ``console``: commands, each with its output if it matters. After a ``console server`` block they run beside the
  server.

Each server, and each block without one, runs in an empty directory with the files above it, and with a free port in
place of 8000. ``nox -s servers`` installs the programs.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import fastmux

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "with-your-server.md"
TIMEOUT = 120.0
EVENT_LOOP = str(fastmux.EventLoop)


def missing_programs() -> list[str]:
    """Return the packages of the extras "servers" and "all-servers" that are not installed."""
    missing = []
    for requirement in importlib.metadata.requires("fastmux-io") or ():
        name, extra = re.match(r"[\w-]+", requirement)[0], re.search(r"extra == .(all-)?servers", requirement)
        try:
            if extra:
                importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


pytestmark = pytest.mark.skipif(
    "FASTMUX_REQUIRE_SERVERS" not in os.environ and missing_programs() != [],
    reason=f"not installed: {', '.join(missing_programs())}",
)


# The page

SECTION = re.compile(r"^## (.*)\n", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+(?: server)?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ((?:~/)?[\w./-]+)\n")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass
class Example:
    """The commands before a server, the server, and the commands beside it: (command, output)."""

    files: dict[str, str]
    commands: list[tuple[str, str]]
    server: str | None = None
    questions: list[tuple[str, str]] = field(default_factory=list)


def read_section(text: str, files: dict[str, str]) -> list[Example]:
    """Return the examples of a section; add its files."""
    found: list[Example] = []
    previous = ""
    for language, code in BLOCK.findall(text):
        steps = COMMAND.findall(code)
        if name := FILE.match(code):
            files[name[1]] = code
        elif language == "console server":
            found.append(Example(dict(files), steps[:-1], steps[-1][0]))
        elif language == "console" and previous == "console server":
            found[-1].questions = steps
        elif language == "console":
            found.append(Example(dict(files), steps))
        previous = language
    return found


#: The files above the first section, and the examples by name: their section, with a number if it has several.
SHARED: dict[str, str] = {}
EXAMPLES: dict[str, Example] = {}

_, *_parts = SECTION.split(PAGE.read_text())
assert read_section(_, SHARED) == []
SECTIONS = dict(zip(_parts[::2], _parts[1::2]))
for _title, _text in SECTIONS.items():
    _examples = read_section(_text, dict(SHARED))
    for _number, _example in enumerate(_examples, 1):
        EXAMPLES[_title if len(_examples) == 1 else f"{_title} {_number}"] = _example


def files_of(section: str) -> dict[str, str]:
    """Return the files of a section without commands, with the shared ones."""
    files = dict(SHARED)
    assert read_section(SECTIONS[section], files) == []
    return files


# Running it


class Machine:
    """An empty home directory, a free port, and commands in a shell."""

    def __init__(self, home: Path) -> None:
        self.home = home
        #: Bound, but not listening: keeps the port free of others, and refuses connections until the server listens.
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        remove = ("TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "FASTMUX_REQUIRE_SERVERS")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in remove},
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._server: Any = None
        self._processes: list[subprocess.Popen[str]] = []
        self._log = home / "server.log"

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.home / name.removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("8000", str(self.port)))

    def run(self, command: str) -> str:
        """Run a command to its end and return its output."""
        process = self._start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, output + errors
        return output

    def serve(self, command: str, pass_fds: tuple[int, ...] = ()) -> None:
        """Start a server, and wait until it answers if the command has its port."""
        with open(self._log, "w") as log:
            self._server = self._start(command, stdout=log, stderr=log, pass_fds=pass_fds)
        if "8000" in command:
            self.ask()

    def _start(self, command: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", "-c", command.replace("8000", str(self.port))],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # close() kills the process group
            **options,
        )
        self._processes.append(process)
        return process

    def ask(self) -> str:
        """Return the answer of the server, as soon as it has one."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            try:
                connection.request("GET", "/")
                return connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException):
                assert self._server.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)
            finally:
                connection.close()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Stop the server by a signal, and return what it has written."""
        self._server.send_signal(number)
        self._server.wait(TIMEOUT)
        return self._log.read_text()

    def close(self) -> None:
        self.socket.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def machine():
    # Not tmp_path: some programs create UNIX sockets in the home directory, and their paths have at most 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as home:
        machine = Machine(Path(home))
        yield machine
        machine.close()


def check_server(machine):
    """Every answer is the class of fastmux.EventLoop, and a signal ends the server without an error."""
    assert {machine.ask().strip('"') for _ in range(5)} == {EVENT_LOOP}
    assert "Traceback" not in machine.stop()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_fastmux(name, machine):
    example = EXAMPLES[name]
    machine.write(example.files)

    for command, output in example.commands:
        assert machine.run(command) == output or output == ""
    if example.server is None:
        return
    machine.serve(example.server)
    if example.questions:
        for command, output in example.questions:
            assert machine.run(command).rstrip("\n") == output.rstrip("\n")
        assert "Traceback" not in machine.stop()
    else:
        check_server(machine)


def test_uvicorn_answers_with_the_class_of_its_loop(machine):
    """The same server without the option: the checks above can fail."""
    machine.write(EXAMPLES["uvicorn 1"].files)
    machine.serve(EXAMPLES["uvicorn 1"].server.replace("--loop fastmux:new_event_loop", "--loop auto"))

    assert machine.ask().strip('"') == "<class 'uvloop.Loop'>"


def test_the_instructions_for_docker(machine):
    """RUN and CMD, without a container: every package is installed here."""
    files = files_of("Docker")
    machine.write(files)
    command = ""
    for line in files["Dockerfile"].splitlines()[1:]:
        instruction, _, argument = line.partition(" ")
        assert instruction in ("FROM", "WORKDIR", "COPY", "RUN", "CMD")
        if instruction == "COPY":
            assert (machine.home / argument.split()[0]).is_file()
        elif instruction == "RUN":
            machine.run(argument)
        elif instruction == "CMD":
            command = shlex.join(json.loads(argument))
    machine.serve(command)

    check_server(machine)


def test_the_units_for_systemd(machine):
    """The service gets the socket as systemd passes it: as descriptor 3, with two variables that say so."""
    files = files_of("systemd")
    machine.write(files)
    assert "\nListenStream=127.0.0.1:8000\n" in files["app.socket"]
    machine.socket.listen()
    (command,) = re.findall(r"^ExecStart=/srv/app/.venv/bin/(.*)$", files["app.service"], re.MULTILINE)
    number = machine.socket.fileno()
    machine.serve(f"exec 3<&{number}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {command}", pass_fds=(number,))

    check_server(machine)


def test_the_first_lines_of_the_readme_start_uvicorn(machine):
    """An application of FastAPI, with uvloop installed, on fastmux; and the proof that the page prints."""
    found = re.search(r"^```sh\n(.+)\n(.+)\n```\n\n.*\n\n```\n(.+)\n```$", README.read_text(), re.MULTILINE)
    install, start, report = found.groups()
    machine.write(SHARED)

    machine.run(install)
    machine.serve(f"{start} --port 8000")
    assert machine.ask().strip('"') == EVENT_LOOP
    assert re.search(re.escape(report).replace("12345", "[0-9]+"), machine.stop(signal.SIGINT))
