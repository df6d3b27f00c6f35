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

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
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


#: Sections about the programs with the most users.
MOST_USED = {"uvicorn", "gunicorn", "hypercorn", "aiohttp", "Django"}

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


def read_page() -> tuple[dict[str, str], dict[str, str], dict[str, Example]]:
    """Return the files of all sections, the sections, and the examples by name: their section, and a number."""
    top, *parts = SECTION.split(PAGE.read_text())
    shared: dict[str, str] = {}
    assert read_section(top, shared) == []
    sections = dict(zip(parts[::2], parts[1::2]))
    examples = {}
    for title, text in sections.items():
        for number, example in enumerate(read_section(text, dict(shared)), 1):
            examples[f"{title} {number}"] = example
    return shared, sections, examples


SHARED, SECTIONS, EXAMPLES = read_page()


def files_of(section: str) -> dict[str, str]:
    """Return the files of a section without commands, with the shared ones."""
    files = dict(SHARED)
    assert read_section(SECTIONS[section], files) == []
    return files


# Running it


class Machine:
    """A shell in an empty home directory, with a free port in place of 8000."""

    def __init__(self, home: Path, port: int, start_server: Callable[..., Any]) -> None:
        self.home = home
        self.port = port
        self._start_server = start_server
        remove = ("FASTMUX_", "PYTHON", "PYTEST_", "TMPDIR", "VIRTUAL_ENV", "XDG_RUNTIME_DIR")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(remove)},
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",  # everything is installed
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.home / name.removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("8000", str(self.port)))

    def run(self, command: str) -> str:
        """Run a command to its end and return its output."""
        done = subprocess.run(**self._shell(command), capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self, command: str, **options: Any) -> Any:
        """Start a server, and return it once it answers, if the command has its port."""
        server = self._start_server(**self._shell(command), **options)
        if "8000" in command:
            server.fetch()
        return server

    def _shell(self, command: str) -> dict[str, Any]:
        arguments = ["bash", "-c", command.replace("8000", str(self.port))]
        return {"args": arguments, "cwd": self.home, "env": self._environment}


@pytest.fixture
def machine(port, start_server):
    # Not tmp_path: some programs create UNIX sockets in the home directory, and their paths have at most 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as home:
        yield Machine(Path(home), port, start_server)


def check(server):
    """Every answer is the class of fastmux.EventLoop, and a signal ends the server without an error."""
    assert {EVENT_LOOP} == {server.fetch().strip('"') for _ in range(5)}
    assert "Traceback" not in server.stop()


def mark(name):
    return pytest.param(name, marks=[pytest.mark.most_used] if name.rpartition(" ")[0] in MOST_USED else [])


@pytest.mark.parametrize("name", [mark(name) for name in EXAMPLES])
def test_an_example_runs_on_fastmux(name, machine):
    example = EXAMPLES[name]
    machine.write(example.files)

    for command, output in example.commands:
        actual = machine.run(command)
        assert output in (actual, "")
    if example.server is None:
        return
    server = machine.serve(example.server)
    for command, output in example.questions:
        assert output.rstrip("\n") == machine.run(command).rstrip("\n")
    if example.questions:
        assert "Traceback" not in server.stop()
    else:
        check(server)


@pytest.mark.most_used
def test_no_line_of_the_page_is_left_out():
    """Each block with a language is a file or commands, and each section is an example or has a test below."""
    page = PAGE.read_text()
    blocks = BLOCK.findall(page)

    assert len(re.findall(r"^```.", page, re.MULTILINE)) == len(blocks)
    assert [code for language, code in blocks if "console" not in language and not FILE.match(code)] == []
    assert set(SECTIONS) - {name.rpartition(" ")[0] for name in EXAMPLES} == {
        "Every other program",
        "Docker",
        "systemd",
    }


@pytest.mark.most_used
def test_the_lines_of_the_first_table_are_in_the_examples():
    rows = re.findall(r"^\| \[(.+)\]\(#.+\) \| (.*`.*) \|$", PAGE.read_text(), re.MULTILINE)
    examples = {name: "".join(code for _, code in BLOCK.findall(text)) for name, text in SECTIONS.items()}
    apart = {"Did it take effect?", "Every other program", "Docker", "systemd", "gevent and eventlet"}

    assert [name for name, _ in rows] == [name for name in SECTIONS if name not in apart]
    assert [line for name, row in rows for line in re.findall("`(.+?)`", row) if line not in examples[name]] == []


@pytest.mark.most_used
def test_an_answer_is_the_class_of_the_running_loop(machine):
    """uvicorn without the option, and with uvloop: the checks above can fail."""
    machine.write(SHARED)

    assert machine.serve("uvicorn app:app --port 8000").fetch().strip('"') == "<class 'uvloop.Loop'>"


@pytest.mark.most_used
def test_the_first_lines_of_the_readme(machine):
    """An application of FastAPI, with uvloop installed, runs on fastmux, and prints the proof that the README shows."""
    first, second = re.findall(r"^```sh\n(.*?)\n```$", README.read_text(), re.MULTILINE | re.DOTALL)[:2]
    (report,) = re.findall(r"^```\n(fastmux: .*)\n```$", README.read_text(), re.MULTILINE)
    report = re.escape(report).replace("12345", "[0-9]+")
    machine.write(SHARED)
    install, start = first.splitlines()

    machine.run(install)
    for command in (start, second):
        server = machine.serve(f"{command} --port 8000")
        assert server.fetch().strip('"') == EVENT_LOOP
        assert re.search(report, server.stop(signal.SIGINT))


def test_the_instructions_for_docker(machine):
    """RUN and CMD, without a container: the packages are installed here."""
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

    check(machine.serve(command))


@pytest.mark.parametrize("service", ["app.service", "gunicorn.service"])
def test_a_service_of_systemd(machine, service):
    """It gets the socket as systemd passes it: as descriptor 3, with two variables that say so."""
    files = files_of("systemd")
    machine.write(SHARED)
    assert "\nListenStream=127.0.0.1:8000\n" in files["app.socket"]
    (command,) = re.findall(r"^ExecStart=/srv/app/.venv/bin/(.*)$", files[service], re.MULTILINE)
    with socket.create_server(("127.0.0.1", machine.port)) as listening:
        fd = listening.fileno()
        server = machine.serve(f"exec 3<&{fd}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {command}", pass_fds=(fd,))

    check(server)
