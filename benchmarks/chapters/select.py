"""Chapter select: select() on lists, below and above the limit of 1024 descriptors."""

from __future__ import annotations

from .call_chapter import MIRROR, ONE_OF, WITH_TIMEOUT, CallChapter, Comparison, against_standard

ABOVE_LIMIT = (2000, 5000, 9000)

COMPARISONS = [
    Comparison(
        "fastmux.select.select, timeout 0",
        MIRROR,
        "lists",
        against_standard("fastmux", {"1 ready of {} sockets": "sockets", "1 ready of {} ints": "ints"}),
        (10, 100, 500),
    ),
    Comparison(
        WITH_TIMEOUT,
        MIRROR,
        "with timeout",
        against_standard("fastmux", {"select.select(1.0), 1 ready of {}": "select"}),
        (10, 500),
    ),
    Comparison(
        "Above the limit of 1024, against a new poll object",
        ("fastmux", "new select.poll"),
        "beyond limit",
        {ONE_OF: ("select", "new poll")},
        ABOVE_LIMIT,
    ),
    Comparison(
        "Above the limit of 1024, against an existing poll object",
        ("fastmux", "select.poll"),
        "beyond limit",
        {ONE_OF: ("select", "poll")},
        ABOVE_LIMIT,
    ),
]

CHAPTER = CallChapter("select", COMPARISONS)
