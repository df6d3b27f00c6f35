"""Run the test suites of projects that use asyncio, on the standard loop and on fastmux.EventLoop.

    python tests/ecosystem [PROJECT...]

For each project: create a virtual environment with the pinned version, unpack the tests of its source archive, and run
them on both loops. The run fails if a test fails on fastmux that passes on the standard loop, if too few tests have
run, or if the tests did not use fastmux's loop. A test that differs runs again alone, three times on each loop: it
counts as unreliable only if the standard loop fails it, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from projects import PROJECTS, Project

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOOPS = ("standard", "fastmux")
#: Seconds for one run of a suite; the longest takes about 300.
LIMIT = 1500
#: Seconds for one test.
TEST_LIMIT = 180
#: Runs of a test that differs, on each loop.
AGAIN = 3

_children: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()


class Run(NamedTuple):
    """One run of a suite."""

    outcomes: dict[str, str]  # test -> "passed", "skipped" or the text of its failure
    loops: dict[str, int]  # kind of loop -> how many were created
    seconds: float
    note: str  # what went wrong with the run itself

    @property
    def failures(self) -> dict[str, str]:
        return {test: text for test, text in self.outcomes.items() if text not in ("passed", "skipped")}

    @property
    def ran(self) -> int:
        return sum(text != "skipped" for text in self.outcomes.values())


def call(*command: str | Path, log: Path, limit: float = LIMIT, **options: object) -> int:
    """Run a command in a process group of its own, which ends with this program; return its status."""
    with log.open("ab") as file:
        child = subprocess.Popen(  # type: ignore[call-overload]
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
        _children.add(child)
        try:
            if _stopping.is_set():
                raise KeyboardInterrupt
            status = int(child.wait(limit))
            if _stopping.is_set():
                raise KeyboardInterrupt
            return status
        finally:
            kill(child)
            _children.discard(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Suite:
    """A project, installed and unpacked below a directory."""

    def __init__(self, project: Project, place: Path) -> None:
        self.project = project
        self.place = place / f"{project.name}-{project.version}"
        self.python = self.place / "venv" / "bin" / "python"
        self.tests = self.place / "tests"
        self.log = self.place / "log"

    def prepare(self, fastmux: str) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        project = self.project
        pinned = f"{project.name}=={project.version}"
        if not self.python.exists():
            self._call(sys.executable, "-m", "venv", "--without-pip", self.place / "venv")
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet")
        self._call(*pip, pinned, "pytest>=9", "pytest-timeout", *project.requirements)
        self._call(*pip, "cffi>=2.0")
        self._call(*pip, "--force-reinstall", "--no-deps", fastmux)

        shutil.rmtree(self.tests, ignore_errors=True)
        if project.repository:
            self._call(
                "git", "clone", "--quiet", "--depth=1", "--branch", project.version, project.repository, self.tests
            )
            shutil.rmtree(self.tests / "src")
        else:
            archives = self.place / "sdist"
            download = ("download", "--quiet", "--no-binary", ":all:", "--no-deps", "--dest", archives)
            self._call(sys.executable, "-m", "pip", *download, pinned)
            (archive,) = archives.glob("*.tar.gz")
            with tarfile.open(archive) as file:
                file.extractall(archives, filter="data")
            shutil.move(archives / self.place.name, self.tests)
            # The tests must import the installed package, with its extension modules.
            shutil.rmtree(self.tests / project.name)

    def _call(self, *command: str | Path) -> None:
        if call(*command, log=self.log):
            text = self.log.read_text(errors="replace")
            raise RuntimeError(f"failed: {' '.join(map(str, command))}\n{text[-2000:]}")

    def run(self, loop: str, *only: str) -> Run:
        """Run the suite on a loop, or some tests of it."""
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory) / "outcomes"
            environment = {
                **os.environ,
                "ECOSYSTEM_LOOP": loop,
                "ECOSYSTEM_OUTPUT": str(output),
                "PYTHONPATH": str(HERE),
                "TMPDIR": directory,
            }
            options = ("-q", "-o", "addopts=", "-p", "record", "-p", "no:cacheprovider", f"--timeout={TEST_LIMIT}")
            options += self.project.options
            command = (self.python, "-m", "pytest", *options, *(only or self.project.tests))
            log = self.place / (f"{loop}-again" if only else loop)
            log.unlink(missing_ok=True)
            note = ""
            try:
                status = call(*command, log=log, cwd=self.tests, env=environment)
                if status not in (0, 1):  # passed, or tests have failed
                    note = f"pytest ended with status {status}, see {log}"
            except subprocess.TimeoutExpired:
                note = f"has not ended within {LIMIT} s, see {log}"
            outcomes: dict[str, str] = {}
            loops: dict[str, int] = {}
            for line in output.read_text(encoding="utf-8").splitlines() if output.exists() else ():
                if isinstance(value := json.loads(line), dict):
                    loops = value
                    continue
                test, outcome, text = value
                if outcome == "failed":
                    outcomes[test] = text
                elif outcome == "skipped" or test not in outcomes:
                    outcomes[test] = outcome
            return Run(outcomes, loops, time.monotonic() - begin, note)


def build(fastmux: str, place: Path) -> str:
    """Build a wheel, unless it is one: setuptools builds in place, and projects are prepared in parallel."""
    if not fastmux.endswith(".whl"):
        command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, fastmux)
        if call(*command, log=place / "log"):
            sys.exit((place / "log").read_text(errors="replace"))
        fastmux = str(next(place.glob("*.whl")))
    return fastmux


def check(suite: Suite, fastmux: str) -> bool:
    """Run a suite on both loops and print the result. Return whether it is right."""
    name = suite.project.name
    say(name, f"{suite.project.version}: installing")
    try:
        suite.prepare(fastmux)
    except RuntimeError as error:
        say(name, f"WRONG: {error}")
        return False
    runs = {}
    for loop in LOOPS:
        say(name, f"running on the {loop} loop")
        runs[loop] = run = suite.run(loop)
        skipped = len(run.outcomes) - run.ran
        counts = f"{run.ran} ran, {run.ran - len(run.failures)} passed, {skipped} skipped"
        say(name, f"{loop}: {counts}, {run.seconds:.0f} s; loops: {run.loops}")
    wrong = judge(suite, **runs)
    for text in wrong:
        say(name, f"WRONG: {text}")
    say(name, f"{len(wrong)} differences" if wrong else "no difference")
    return not wrong


def judge(suite: Suite, standard: Run, fastmux: Run) -> list[str]:
    """Return what fails on fastmux only."""
    wrong = [f"{loop}: {run.note}" for loop, run in zip(LOOPS, (standard, fastmux)) if run.note]
    if fastmux.ran < suite.project.least:
        wrong.append(f"{fastmux.ran} tests have run, fewer than {suite.project.least}")
    if set(fastmux.loops) - {"fastmux"} - set(suite.project.own_loops) or not fastmux.loops:
        wrong.append(f"not only fastmux's loops: {fastmux.loops}")
    if missing := standard.outcomes.keys() - fastmux.outcomes.keys():
        wrong.append(f"not run on fastmux: {', '.join(sorted(missing))}")
    skipped = [test for test, text in fastmux.outcomes.items() if text == "skipped"]
    if more := [test for test in skipped if standard.outcomes.get(test, "skipped") != "skipped"]:
        wrong.append(f"skipped on fastmux only: {', '.join(more)}")
    for test in standard.failures:
        say(suite.project.name, f"fails on the standard loop{' only' * (test not in fastmux.failures)}: {test}")
    for test, text in fastmux.failures.items():
        if test in standard.failures:
            continue
        failed = {loop: sum(bool(suite.run(loop, test).failures) for _ in range(AGAIN)) for loop in LOOPS}
        counts = ", ".join(f"{count} of {AGAIN} on {loop}" for loop, count in failed.items())
        if failed["standard"]:
            say(suite.project.name, f"unreliable: {test}, fails alone {counts}")
        else:
            wrong.append(f"{test}, fails alone {counts}\n{text}")
    return wrong


_begin = time.monotonic()


def say(name: str, text: str) -> None:
    print(f"[{time.monotonic() - _begin:5.0f} s] {name:10} {text}".replace("\n", "\n    "), flush=True)


def main() -> None:
    known = [project.name for project in PROJECTS]
    parser = argparse.ArgumentParser(
        prog="python tests/ecosystem", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--fastmux", default=str(ROOT), help="what pip installs: a wheel or sources (default: these)")
    parser.add_argument(
        "--place", type=Path, help="directory for environments and logs, kept (default: a temporary one)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="projects at once (default: %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.projects) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell starts this in the background

    chosen = [project for project in PROJECTS if project.name in (options.projects or known)]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        place = (options.place or Path(temporary)).resolve()
        try:
            wheel = build(options.fastmux, Path(temporary))
            results = [pool.submit(check, Suite(project, place), wheel) for project in chosen]
            broken = [project.name for project, result in zip(chosen, results) if not result.result()]
        except KeyboardInterrupt:
            _stopping.set()
            for child in list(_children):
                kill(child)
            pool.shutdown(cancel_futures=True)
            sys.exit("interrupted")
    if broken:
        sys.exit(f"failed: {', '.join(broken)}")


if __name__ == "__main__":
    main()
