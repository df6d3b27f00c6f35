"""Find leaks: repeat each operation in a fresh interpreter, and compare the process before and after: resident memory,
blocks of Python's allocator, bytes of malloc(), open descriptors.

    python tests/leaks [--full | --rounds N] [WORD...]

With words, only cases with one of them in their name are run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cases import CASES
from measure import MARGINS

import fastmux

#: A short run has this fraction of the rounds, and at least so many.
SHORT, FEWEST = 50, 200
#: Seconds for one case.
LIMIT = 1800


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tests/leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    counts = parser.add_mutually_exclusive_group()
    counts.add_argument("--full", action="store_true", help="up to a million rounds of a case; about ten minutes")
    counts.add_argument("--rounds", type=int, metavar="N", help="rounds of each case")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for the figures")
    args = parser.parse_args()
    args.names = [name for name in CASES if not args.words or any(word in name for word in args.words)]
    if not args.names:
        parser.error(f"no such case; there are:\n{'; '.join(CASES)}")
    return args


def run(name: str, rounds: int) -> dict[str, Any]:
    """Measure a case in a fresh interpreter; a case that fails counts as leaking."""
    command = [sys.executable, str(Path(__file__).parent / "one.py"), name, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0 or done.stderr:
        return {"grown": {}, "leaked": {"failed": done.stderr[-2000:]}, "rounds": rounds}
    return {**json.loads(done.stdout), "rounds": rounds}


def main() -> None:
    args = arguments()

    def count(name: str) -> int:
        rounds = CASES[name].rounds
        return args.rounds or (rounds if args.full else max(rounds // SHORT, FEWEST))

    print(f"fastmux {fastmux.__version__} ({fastmux.implementation}), Python {platform.python_version()}; "
          f"growth that is no leak: {MARGINS}")  # fmt: skip
    results = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, result in zip(args.names, pool.map(lambda name: run(name, count(name)), args.names)):
            results[name] = result
            grown = ", ".join(f"{what} {amount:+,}" for what, amount in result["grown"].items())
            print(f"{name}, {result['rounds']:,} rounds: {grown}", flush=True)
            if result["leaked"]:
                print(f"    LEAKED: {result['leaked']}", flush=True)
    if args.output:
        about = {"python": platform.python_version(), "implementation": fastmux.implementation, "margins": MARGINS}
        args.output.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
    if leaking := [name for name, result in results.items() if result["leaked"]]:
        sys.exit(f"{len(leaking)} of {len(results)} leak: {'; '.join(leaking)}")


if __name__ == "__main__":
    main()
