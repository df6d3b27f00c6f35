"""The chapters poll, selectors and select: which single calls are compared with which."""

from __future__ import annotations

import resource
import sys

from . import process
from .calls import Chapter, Part, Settings
from .results import Results, Row, middle, timed

SIZES = (0, 1, 10, 100, 1000)
READY = "{} ready"
ONE_OF = "1 ready of {}"
#: fastmux, and the standard module under the same name.
MIRROR = ("fastmux", "standard")

POLL = [
    Part(
        "Poller.poll(0) against epoll.poll(0)",
        ("Poller", "select.epoll"),
        "epoll",
        {READY: ("Poller poll", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "Poller.wait(0) against epoll.poll(0)",
        ("Poller", "select.epoll"),
        "epoll",
        {READY: ("Poller wait", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "fastmux.select.epoll, poll(0)",
        MIRROR,
        "epoll",
        {READY: ("fastmux poll", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "fastmux.select.epoll, poll(0)",
        MIRROR,
        "epoll arguments",
        {
            "{} ready, timeout=0": ("fastmux timeout=0", "standard timeout=0"),
            "{} ready, maxevents={}": ("fastmux maxevents", "standard maxevents"),
        },
        (10,),
        all_ready=True,
    ),
    Part(
        "fastmux.select.poll, poll(0)",
        MIRROR,
        "poll",
        {ONE_OF: ("fastmux poll", "standard poll")},
        (10, 100, 1000),
    ),
    Part(
        "Ready at once, but with a timeout",
        MIRROR,
        "timed",
        {
            "Poller.poll(1.0)": ("Poller", "standard epoll"),
            "epoll.poll(1.0)": ("fastmux epoll", "standard epoll"),
            "poll.poll(1000)": ("fastmux poll", "standard poll"),
        },
        (10,),
    ),
    Part(
        "Poller.poll(0) against pyzmq's Poller",
        ("Poller", "zmq.Poller"),
        "epoll",
        {READY: ("Poller poll", "zmq poll")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "Poller.poll(0) against pyzmq's Poller",
        ("Poller", "zmq.Poller"),
        "epoll",
        {ONE_OF: ("Poller poll", "zmq poll")},
        (10, 100, 1000),
    ),
    Part(
        "Poller.poll(0) against the loop in C",
        ("Poller", "C"),
        "epoll",
        {READY: ("Poller poll", "C")},
        SIZES,
        all_ready=True,
        no_rival="limit",
    ),
]


def pairs(ours: str, names: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (f"{ours} {what}", f"standard {what}") for name, what in names.items()}


CHANGES = {
    "register, unregister": "register",
    "register, use, unregister": "register, use",
    "modify: other events": "events",
    "modify: the same, and use": "events, use",
    "modify: other data": "data",
    "modify: nothing new": "nothing",
}
SELECTORS = [
    Part(
        "Poller.select(0) against EpollSelector",
        ("Poller", "EpollSelector"),
        "EpollSelector",
        {READY: ("Poller", "standard")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "fastmux.selectors.EpollSelector, select(0)",
        MIRROR,
        "EpollSelector",
        {READY: ("fastmux", "standard")},
        SIZES,
        all_ready=True,
    ),
    Part(
        "fastmux.selectors.PollSelector, select(0)",
        MIRROR,
        "PollSelector",
        pairs("fastmux", {ONE_OF: "select(0)"}),
        (10, 100, 1000),
    ),
    Part(
        "fastmux.selectors.SelectSelector, select(0)",
        MIRROR,
        "SelectSelector",
        pairs("fastmux", {ONE_OF: "select(0)"}),
        (10, 100, 400),
    ),
    Part(
        "Ready at once, but with a timeout",
        MIRROR,
        "EpollSelector, timeout",
        pairs("fastmux", {"EpollSelector.select(1.0)": "select(1.0)"}),
        (10,),
    ),
    Part(
        "Poller, registrations",
        ("Poller", "EpollSelector"),
        "EpollSelector changes",
        pairs("Poller", CHANGES),
        (1,),
    ),
    Part(
        "EpollSelector, registrations",
        MIRROR,
        "EpollSelector changes",
        pairs("fastmux", CHANGES),
        (1,),
    ),
    Part(
        "PollSelector, registrations",
        MIRROR,
        "PollSelector changes",
        pairs("fastmux", CHANGES),
        (1,),
    ),
    Part(
        "A short life",
        MIRROR,
        "life",
        {
            "Poller: open, close": ("Poller empty", "standard empty"),
            "Poller: open, use, close": ("Poller used", "standard used"),
            **pairs("fastmux", {"EpollSelector: open, close": "empty", "EpollSelector: and use": "used"}),
        },
        (2,),
    ),
    Part(
        "A short life",
        MIRROR,
        "short PollSelector",
        pairs("fastmux", {"PollSelector: and use": "used"}),
        (2,),
    ),
    Part(
        "Built on it",
        MIRROR,
        "programs",
        pairs(
            "fastmux",
            {
                "subprocess.run": "subprocess",
                "multiprocessing's wait": "multiprocessing",
                "asyncio, one byte": "asyncio",
            },
        ),
        (2,),
    ),
]
BEYOND = (2000, 5000, 9000)
SELECT = [
    Part(
        "fastmux.select.select, not waiting",
        MIRROR,
        "lists",
        pairs("fastmux", {"1 ready of {} sockets": "sockets", "1 ready of {} ints": "ints"}),
        (10, 100, 500),
    ),
    Part(
        "Ready at once, but with a timeout",
        MIRROR,
        "timed",
        pairs("fastmux", {ONE_OF: "select"}),
        (10, 500),
    ),
    Part(
        "Above the limit of 1024, against a new poll object",
        ("fastmux", "new select.poll"),
        "beyond",
        {ONE_OF: ("select", "new poll")},
        BEYOND,
    ),
    Part(
        "The same, against one that knows the sockets",
        ("fastmux", "select.poll"),
        "beyond",
        {ONE_OF: ("select", "poll")},
        BEYOND,
    ),
]


def cpu_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(settings: Settings, results: Results) -> None:
    """What the import costs: the CPU time of a fresh interpreter that does nothing else."""
    times: dict[str, list[float]] = {"selectors": [], "fastmux": []}
    names = list(times)
    for number in range(-1, settings.starts):
        for name in names:
            before = cpu_time_of_children()
            process.run([sys.executable, "-c", f"import {name}"])
            if number >= 0:  # the one before reads the files from the disk, and may write their bytecode
                times[name].append(cpu_time_of_children() - before)
        names.reverse()
    name = "python -c 'import ...'"
    ours, theirs = timed(name, times["fastmux"]), timed(name, times["selectors"])
    results.rows.append(Row("selectors", "Built on it", *MIRROR, name, ours, theirs))
    more = middle([ours - theirs for theirs, ours in zip(*times.values())])
    results.note(
        f"A program takes {more.median * 1e3:.1f} ms more to start with import fastmux than with import selectors "
        f"(middle half: {more.low * 1e3:.1f} to {more.high * 1e3:.1f}, {settings.starts} pairs of fresh interpreters)."
    )


poll = Chapter("poll", "poll_calls", POLL)
selectors = Chapter("selectors", "selectors_calls", SELECTORS, start)
select = Chapter("select", "select_calls", SELECT)
