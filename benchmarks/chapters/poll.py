"""Chapter poll: calls that return (descriptor, events)."""

from __future__ import annotations

from .call_chapter import EPOLL_LOOP, MIRROR, ONE_OF, READY, SIZES, WITH_TIMEOUT, CallChapter, Comparison

COMPARISONS = [
    Comparison(
        "Poller.poll(0) against epoll.poll(0)",
        ("Poller", "select.epoll"),
        "epoll",
        {READY: ("Poller poll", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "Poller.wait(0) against epoll.poll(0)",
        ("Poller", "select.epoll"),
        "epoll",
        {READY: ("Poller wait", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "fastmux.select.epoll, poll(0)",
        MIRROR,
        "epoll",
        {READY: ("fastmux poll", "standard poll")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "fastmux.select.epoll, poll() with arguments",
        MIRROR,
        "epoll arguments",
        {
            "{} ready, timeout=0": ("fastmux timeout=0", "standard timeout=0"),
            "{} ready, maxevents={}": ("fastmux maxevents", "standard maxevents"),
        },
        (10,),
        all_ready=True,
    ),
    Comparison(
        "fastmux.select.poll, poll(0)",
        MIRROR,
        "poll",
        {ONE_OF: ("fastmux poll", "standard poll")},
        (10, 100, 1000),
    ),
    Comparison(
        WITH_TIMEOUT,
        MIRROR,
        "with timeout",
        {
            "Poller.poll(1.0)": ("Poller", "standard epoll"),
            "epoll.poll(1.0)": ("fastmux epoll", "standard epoll"),
            "poll.poll(1000)": ("fastmux poll", "standard poll"),
        },
        (10,),
    ),
    Comparison(
        "Poller.poll(0) against pyzmq's Poller",
        ("Poller", "zmq.Poller"),
        "epoll",
        {READY: ("Poller poll", "zmq poll")},
        SIZES,
        all_ready=True,
    ),
    Comparison(
        "Poller.poll(0) against pyzmq's Poller, one ready",
        ("Poller", "zmq.Poller"),
        "epoll",
        {ONE_OF: ("Poller poll", "zmq poll")},
        (10, 100, 1000),
    ),
    Comparison(
        "Poller.poll(0) against a loop in C",
        ("Poller", "C"),
        "epoll",
        {READY: ("Poller poll", EPOLL_LOOP)},
        SIZES,
        all_ready=True,
        reference="limit",
    ),
]

CHAPTER = CallChapter("poll", COMPARISONS)
