"""Run the code blocks of the README and of the pages: a pytest plugin for ``nox -s docs``.

The language of a block selects the check:

- ``python``: run it, in one namespace per page. Compare its output with the next ``text`` block. A block that begins
  with a comment such as ``# hello.py`` is saved under that name instead.
- ``console``: run each line that begins with ``$``, and compare its output with the lines below it.
- ``console server``: the same in a second terminal, where the last command keeps running.
- Any other language, such as ``sh`` or ``diff``: no check.

Each page runs in an empty directory of its own. FASTMUX_WHEEL replaces the clone in the install command of a page; the
default is this clone.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

PATIENCE = 60.0
ROOT = Path(__file__).resolve().parents[1]
CLONE = "~/fastmux"
INSTALLED = os.environ.get("FASTMUX_WHEEL", str(ROOT))
END = "-- end of the output:"

_run_python = PythonEvaluator()


class Terminal:
    """A shell with the directory of this Python first in PATH."""

    def __init__(self, directory: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=directory,
            env={**environment, "PATH": path, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # close() kills the whole process group
        )

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def run(self, command: str, lines: int | None = None) -> str:
        """Return the output of a command: all of it, or the first lines of a command that keeps running."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{{ {command}\n}} < /dev/null\necho "{END} $?"\n')
        self._process.stdin.flush()
        timer = threading.Timer(PATIENCE, self.close)
        timer.start()
        output = ""
        while lines is None or output.count("\n") < lines:
            line = self._process.stdout.readline()
            if not line:
                output += "(the shell ended, or was killed after a minute)\n"
                break
            if line.startswith(END):
                output += "" if line == f"{END} 0\n" else f"(status {line[len(END) :].strip()})\n"
                break
            output += line
        timer.cancel()
        return output


class Page:
    """The state of one page: its directory, its terminals, its unchecked output."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.directory = self._place.name
        self.terminals: dict[str, Terminal] = {}
        #: Output of Python that no text block has confirmed yet.
        self.printed = ""

    def close(self) -> None:
        for terminal in self.terminals.values():
            terminal.close()
        self._place.cleanup()
        assert not self.printed, f"the page has no text block for this output: {self.printed}"


def compare(printed: str, said: str) -> str | None:
    """Return None if the outputs are equal, else a message."""
    return None if printed == said else f"actual output:\n{printed}\nexpected output:\n{said}"


def evaluate_python(example: Example) -> str | None:
    page: Page = example.namespace["page"]
    if name := re.match(r"# (\w+\.py)\n", example.parsed):
        Path(page.directory, name[1]).write_text(example.parsed)
        return None
    if page.printed:
        return f"the page has no text block for the output of the block before: {page.printed}"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        _run_python(example)
    page.printed = output.getvalue()
    return None


def evaluate_text(example: Example) -> str | None:
    page: Page = example.namespace["page"]
    printed, page.printed = page.printed, ""
    return compare(printed, example.parsed)


def evaluate_console(example: Example) -> str | None:
    page: Page = example.namespace["page"]
    name = example.region.lexemes["arguments"]
    if name not in page.terminals:
        page.terminals[name] = Terminal(page.directory)
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", example.parsed, re.MULTILINE)
    for number, (command, said) in enumerate(steps, 1):
        lines = said.count("\n") if name == "console server" and number == len(steps) else None
        printed = page.terminals[name].run(command.replace(CLONE, INSTALLED), lines)
        if failure := compare(printed, said):
            return f"$ {command}\n{failure}"
    return None


def set_up(namespace: dict[str, Any]) -> None:
    namespace["page"] = Page()


def tear_down(namespace: dict[str, Any]) -> None:
    namespace["page"].close()


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", evaluate_python),
        CodeBlockParser("text", evaluate_text),
        CodeBlockParser("console", evaluate_console),
        CodeBlockParser("console server", evaluate_console),
    ],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md"],
    # tests/examples/test_walkthrough.py and tests/servers/test_page.py run these two.
    excludes=["docs/walkthrough.md", "docs/with-your-server.md"],
    setup=set_up,
    teardown=tear_down,
).pytest()
