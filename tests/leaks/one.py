"""Measure one case: ``python tests/leaks/one.py CASE ROUNDS`` prints the use before and after as JSON."""

from __future__ import annotations

import contextlib
import json
import sys

from cases import CASES
from measure import measure

if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        case = CASES[sys.argv[1]]
        print(json.dumps(measure(case.make(stack), int(sys.argv[2]), case.warm_up)))
