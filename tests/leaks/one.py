"""Measure one case: ``python tests/leaks/one.py CASE ROUNDS`` prints the use before and after as JSON."""

from __future__ import annotations

import contextlib
import json
import sys

from cases import CASES
from measure import measure

if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        print(json.dumps(measure(CASES[sys.argv[1]].make(stack), int(sys.argv[2]))))
