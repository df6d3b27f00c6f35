"""Outcomes of calls, in a form that can be compared."""

from __future__ import annotations

import contextlib
from pathlib import Path


def error_of(function, *args):
    """The number of the OSError that a call ends with, if it does."""
    try:
        function(*args)
    except OSError as error:
        return error.errno
    return None


def kernel_set(epoll):
    """What is in an epoll set: descriptor -> events."""
    lines = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text().splitlines()
    return {int(fields[1]): int(fields[3], 16) for line in lines if (fields := line.split())[:1] == ["tfd:"]}


def ready(watcher, seconds=0):
    """What something that watches reports: a set of descriptors."""
    if hasattr(watcher, "select"):
        return {key.fd for key, _ in watcher.select(seconds)}
    return {fd for fd, _ in watcher.poll(seconds if hasattr(watcher, "fileno") else 1000 * seconds)}


@contextlib.contextmanager
def made(*classes):
    """Make one of each, and close them."""
    with contextlib.ExitStack() as stack:
        objects = [cls() for cls in classes]
        for each in objects:
            if hasattr(each, "close"):
                stack.callback(each.close)
        yield objects


def same(outcomes):
    """What is the same for both twins."""
    one, other = outcomes
    assert one == other
    return one
