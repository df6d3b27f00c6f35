"""docs/promises.md: every promise names existing tests, and the table has every method."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastmux

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text()
#: Each promise with its indented lines.
PROMISES = re.findall(r"^- .*\n(?:^ .*\n)*", PAGE, re.MULTILINE)
NAME = re.compile(r"^  - `(tests/\S+\.py)::([\w:]+)`$", re.MULTILINE)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_the_tests_that_hold_it(promise):
    assert NAME.search(promise)


def test_the_tests_that_are_named_exist():
    named = {"::".join(pair) for pair in NAME.findall(PAGE)}
    files = {name.partition("::")[0] for name in named}
    listing = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *sorted(files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    collected = {line.partition("[")[0] for line in listing.stdout.splitlines()}

    assert len(named) > 100
    assert named - collected == set(), listing.stderr


def test_the_table_has_every_public_name():
    section = PAGE.partition("\n## From where")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:4] for row in section.splitlines() if row.startswith("| `")]
    with fastmux.Poller() as poller:
        public = {name for name in dir(poller) if not name.startswith("_")}

    assert {name for row in rows for name in re.findall(r"`(\w+)", row[0])} == public
    assert {answer.strip() for row in rows for answer in row[1:]} <= {"yes", "no"}
