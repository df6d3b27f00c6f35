"""Run CPython's own tests on fastmux: each suite on the plain interpreter and with fastmux.patch(); those of asyncio
also on fastmux.EventLoop.

    python tests/cpython [SUITE...]

The tests are those in the ``test`` package of this interpreter. The run fails if a test fails that passes on the plain
interpreter, if a suite has run no test, or if a suite did not use fastmux.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from suites import SUITES

HERE = Path(__file__).parent
#: Seconds for one suite; the longest takes about 60.
LIMIT = 400


def run(suite: str, how: str, *only: str) -> dict[str, Any]:
    """Run a suite, or some tests of it, in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "outcomes.json"
        command = [sys.executable, str(HERE / "one.py"), suite, how, str(output), *only]
        environment = {**os.environ, "PYTHONPATH": str(HERE), "TMPDIR": place}
        try:
            done = subprocess.run(
                command, cwd=place, env=environment, capture_output=True, text=True, errors="replace", timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return {"outcomes": {}, "notes": [f"has not ended within {LIMIT} s"], "seconds": LIMIT}
        if not output.exists():
            return {"outcomes": {}, "notes": [f"died: {done.returncode}\n{done.stderr[-2000:]}"], "seconds": 0.0}
        result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return result


def failures(result: dict[str, Any]) -> dict[str, str]:
    return {name: text for name, text in result["outcomes"].items() if text not in ("passed", "skipped")}


def judge(suite: str, way: str, plain: dict[str, Any], patched: dict[str, Any]) -> tuple[str, list[str]]:
    """Return a summary line of a suite, and its failures."""
    if plain["notes"] == patched["notes"] == ["absent"]:
        return "not in this version of Python", []
    wrong = [note for note in patched["notes"] if note not in plain["notes"]]
    outcomes = patched["outcomes"]
    ran = sum(text != "skipped" for text in outcomes.values())
    if not ran:
        wrong.append(f"no test has run. {'; '.join(patched['notes'])}")
    if missing := plain["outcomes"].keys() - outcomes.keys():
        wrong.append(f"not run: {', '.join(sorted(missing))}")
    again = []
    for name, text in failures(patched).items():
        if name in failures(plain):
            continue
        # Some of CPython's tests fail on a busy machine. Retry alone.
        if not failures(run(suite, way, name)):
            again.append(name)
        else:
            wrong.append(f"{name}\n{text}")
    line = (
        f"{ran:4} ran, {len(outcomes) - ran:3} skipped, {patched['seconds']:5.1f} s (plain {plain['seconds']:5.1f} s)"
    )
    if known := failures(plain):
        line += f"; the plain interpreter fails {len(known)}: {', '.join(known)}"
    if again:
        line += f"; passed the second time: {', '.join(again)}"
    return line, wrong


def main() -> None:
    known = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(
        prog="python tests/cpython", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"default: all of {', '.join(known)}")
    parser.add_argument(
        "--jobs", type=int, default=2 * (os.cpu_count() or 1), help="processes at once (default: %(default)s)"
    )
    options = parser.parse_args()
    # A shell that starts this in the background makes it, and its children, ignore Ctrl-C. Some tests need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if unknown := set(options.suites) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = options.suites or known

    print(f"CPython {sys.version.split()[0]}, its own tests", flush=True)
    broken = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        ways = {suite.name: suite.ways for suite in SUITES if suite.name in chosen}
        runs = {(suite, how): pool.submit(run, suite, how) for suite in ways for how in ("plain", *ways[suite])}
        pairs = [(suite, way) for suite in ways for way in ways[suite]]
        for suite, way in pairs:
            line, wrong = judge(suite, way, runs[suite, "plain"].result(), runs[suite, way].result())
            print(f"  {suite:35} {'' if way == 'patched' else way:5} {line}", flush=True)
            for text in wrong:
                print(f"    WRONG: {text}".replace("\n", "\n    "), flush=True)
            broken += bool(wrong)
    if broken:
        sys.exit(f"{broken} of {len(pairs)} runs do not pass")


if __name__ == "__main__":
    main()
