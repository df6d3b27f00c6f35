"""Results and errors of calls, in a form that can be compared."""

from __future__ import annotations

import contextlib
from pathlib import Path


def error_of(function, *args):
    """Return the errno of the OSError of a call, or None."""
    try:
        function(*args)
    except OSError as error:
        return error.errno
    return None


def kernel_set(epoll):
    """Return the content of an epoll set: descriptor -> events."""
    lines = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text().splitlines()
    return {int(fields[1]): int(fields[3], 16) for line in lines if (fields := line.split())[:1] == ["tfd:"]}


def ready(watcher, seconds=0):
    """Return the set of ready descriptors of a poller, selector, epoll or poll object."""
    if hasattr(watcher, "select"):
        return {key.fd for key, _ in watcher.select(seconds)}
    return {fd for fd, _ in watcher.poll(seconds if hasattr(watcher, "fileno") else 1000 * seconds)}


@contextlib.contextmanager
def made(*classes):
    """Create an instance of each class; close them at the end."""
    with contextlib.ExitStack() as stack:
        objects = [cls() for cls in classes]
        for each in objects:
            if hasattr(each, "close"):
                stack.callback(each.close)
        yield objects


def same(outcomes):
    """Check that two outcomes are equal; return one."""
    one, other = outcomes
    assert one == other
    return one
