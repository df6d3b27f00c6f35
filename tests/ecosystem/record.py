"""A pytest plugin that installs fastmux's loop, if told to, and records the outcome of each test.

ECOSYSTEM_LOOP: "standard" or "fastmux". ECOSYSTEM_OUTPUT: a file that gets one JSON value a line, also before a crash:
[test, outcome, text] for each phase of a test, and at the end the number of loops of each kind.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from asyncio import selector_events
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: "fastmux", or the class of a loop -> how many loops have been created.
loops: Counter[str] = Counter()


def install() -> None:
    """Create fastmux's loops wherever asyncio would create its own, and count them."""
    sys.path.append(str(Path(__file__).parents[1] / "cpython"))
    from one import install_loop

    import fastmux

    assert fastmux.implementation == "c", "the extension is missing"
    install_loop()


def count_loops() -> None:
    created = selector_events.BaseSelectorEventLoop.__init__

    @functools.wraps(created)
    def init(self: Any, selector: Any = None) -> None:
        created(self, selector)
        loops["fastmux" if getattr(self, "_uses_core", False) else type(self).__name__] += 1

    selector_events.BaseSelectorEventLoop.__init__ = init  # type: ignore[method-assign]


if os.environ["ECOSYSTEM_LOOP"] == "fastmux":
    install()
count_loops()


def write(value: Any) -> None:
    with open(os.environ["ECOSYSTEM_OUTPUT"], "a", encoding="utf-8") as file:
        print(json.dumps(value), file=file)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    write([report.nodeid, report.outcome, str(report.longrepr) if report.failed else ""])


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        write([report.nodeid, report.outcome, str(report.longrepr)])


def pytest_sessionfinish() -> None:
    write(dict(loops))
