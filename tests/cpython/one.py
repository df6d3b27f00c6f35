"""Run one of CPython's test modules in this process, and write the outcome of each test as JSON.

python tests/cpython/one.py SUITE plain|patched|loop OUTPUT [TEST...]
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import re
import resource
import sys
import time
import unittest
from typing import Any

from suites import LOOP, PRIVATE, SUITES

#: Bytes of address space.
MEMORY = 8 << 30
#: Resources for the test package: none that only take long.
RESOURCES = {"cpu": None, "subprocess": None}


class Record(unittest.TestResult):
    """The outcome of each test: its id -> "passed", "skipped" or the text of its failure."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def note(self, test: unittest.TestCase, outcome: str) -> None:
        # Ids of subtests and class-level failures have addresses, which differ between runs.
        name = re.sub(r"0x[0-9a-f]+", "0x", test.id())
        if self.outcomes.get(name, "passed") in ("passed", "skipped"):
            self.outcomes[name] = outcome

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.note(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.note(test, "skipped")

    def addExpectedFailure(self, test: unittest.TestCase, error: Any) -> None:
        self.note(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.note(test, "unexpected success")

    def addFailure(self, test: unittest.TestCase, error: Any) -> None:
        self.note(test, self._exc_info_to_string(error, test))  # type: ignore[attr-defined]

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: Any) -> None:
        if error is not None:
            self.note(test, self._exc_info_to_string(error, test))  # type: ignore[attr-defined]


def install_loop() -> None:
    """Replace the event loop classes of asyncio by fastmux.EventLoop, for tests that are loaded later."""
    import asyncio
    from asyncio import unix_events

    import fastmux

    namespaces: tuple[Any, ...] = (asyncio, unix_events)
    for namespace in namespaces:
        for name in ("SelectorEventLoop", "EventLoop"):  # EventLoop is new in Python 3.13
            if hasattr(namespace, name):
                setattr(namespace, name, fastmux.EventLoop)
    namespaces[1]._UnixDefaultEventLoopPolicy._loop_factory = fastmux.EventLoop


def failed(checks: tuple[str, ...], module: Any) -> list[str]:
    """Return the failed checks."""
    import fastmux

    names: dict[str, Any] = {"fastmux": fastmux, "suite": module}
    for check in checks:
        for name in re.findall(r"\b[a-z_]+\b(?=\.)", check):
            if name not in names:
                with contextlib.suppress(ImportError):  # an attribute, not a module
                    names[name] = importlib.import_module(name)
    return [check for check in checks if not eval(check, names)]


def main() -> None:
    name, how, output, *only = sys.argv[1:]
    # A runaway test must not use up the memory of the machine.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    (suite,) = (suite for suite in SUITES if suite.name == name)
    if how != "plain":
        import fastmux

        assert fastmux.implementation == "c", "the extension is missing"
        fastmux.patch()
    if how == "loop":
        install_loop()
    from test import support

    support.use_resources = {**RESOURCES, **dict.fromkeys(suite.resources)}
    begin = time.monotonic()
    record = Record()
    notes = []
    try:
        module = importlib.import_module(f"test.{name}")
    except ImportError:
        if importlib.util.find_spec(f"test.{name}") is not None:
            raise
        notes.append("absent")  # in this version of Python
    except unittest.SkipTest as error:
        notes.append(f"skipped: {error}")
    else:
        if how == "loop" and sys.version_info >= (3, 14):
            for test, reason in PRIVATE.get(name, {}).items():
                case, method = test.split(".")
                setattr(getattr(module, case), method, unittest.skip(reason)(getattr(getattr(module, case), method)))
        loader = unittest.defaultTestLoader
        tests = loader.loadTestsFromNames(only) if only else loader.loadTestsFromModule(module)
        checks = {"plain": (), "patched": suite.checks, "loop": LOOP}[how]
        if found := failed(checks, module):
            notes.append(f"not fastmux's: {'; '.join(found)}")
        tests.run(record)
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"outcomes": record.outcomes, "notes": notes, "seconds": time.monotonic() - begin}, file)


if __name__ == "__main__":
    main()
