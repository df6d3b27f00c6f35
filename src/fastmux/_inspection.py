"""What a poller tells about itself: what it has done, and where the kernel and its own table disagree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from selectors import SelectorKey
from typing import Final, NamedTuple


class Stats(NamedTuple):
    """What a poller has done since it was made; in a child of a fork, its parent's part included."""

    #: Waits that came to an end, with events or without.
    waits: int
    #: Events that they reported.
    events: int
    #: Events that the kernel reported of registrations that were gone, and that were dropped.
    stale_events: int
    #: System calls to change the kernel's set: epoll only.
    control_calls: int
    #: Changes that needed no such call, because they changed nothing.
    control_calls_avoided: int
    #: Waits that a wakeup() has ended.
    wakeups: int
    #: Times that a wait was interrupted and went on: by a signal, or for nothing but stale events.
    interruptions: int
    #: New epoll sets in place of the old one: after a fork, or to be rid of a closed file behind a dup.
    renewals: int
    #: Times that the arrays for results were made larger.
    growths: int


class Difference(NamedTuple):
    """One thing that is not as it should be."""

    fd: int
    #: The registration, or None if the kernel has something that nobody has registered.
    key: SelectorKey | None
    #: "closed": the file was closed without being unregistered. "missing": the kernel does not watch it; it was closed,
    #: and its number is another file's now. "events": the kernel watches for other events. "left over": the kernel
    #: still watches a file that was closed while a dup of it lives on.
    problem: str


class Watched(NamedTuple):
    """One line of what the kernel has in an epoll set."""

    fd: int
    events: int
    data: int
    inode: int | None


#: What the kernel adds to the events of everything, and what it leaves of a one-shot registration that has fired.
_ADDED: Final = 0x18  # ERROR, HANGUP
_LEFT: Final = 1 << 31 | 1 << 30 | 1 << 29  # EDGE, ONESHOT, EPOLLWAKEUP
_LINE: Final = re.compile(r"tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)(?:.* ino:([0-9a-f]+))?")


def watched(epoll_fd: int) -> list[Watched]:
    """What the kernel has in an epoll set of this process; OSError where there is no /proc."""
    with open(f"/proc/self/fdinfo/{epoll_fd}", encoding="ascii") as info:
        return [
            Watched(int(fd), int(events, 16), int(data, 16), int(inode, 16) if inode else None)
            for fd, events, data, inode in _LINE.findall(info.read())
        ]


def has_fired(row: Watched) -> bool:
    """Whether this is a one-shot registration that has reported, and waits to be re-armed."""
    return row.events & ~_LEFT == 0


def is_current(row: Watched) -> bool:
    """Whether the number still stands for the file that is watched."""
    try:
        return row.inode in (None, os.fstat(row.fd).st_ino)
    except OSError:
        return False


def compare(keys: Mapping[int, SelectorKey], rows: Iterable[Watched]) -> list[Difference]:
    """What differs between registrations and the kernel's set."""
    differences = closed_files(keys)
    seen = {}
    for row in rows:
        if row.fd in keys and is_current(row):
            seen[row.fd] = row
        else:
            differences.append(Difference(row.fd, None, "left over"))
    for fd, key in keys.items():
        if fd not in seen:
            if is_open(fd):
                differences.append(Difference(fd, key, "missing"))
        elif (seen[fd].events ^ key.events) & ~_ADDED and not has_fired(seen[fd]):
            differences.append(Difference(fd, key, "events"))
    return sorted(differences, key=lambda difference: difference.fd)


def is_open(fd: int) -> bool:
    """Whether this number stands for an open file."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def closed_files(keys: Mapping[int, SelectorKey]) -> list[Difference]:
    """What can be wrong where the kernel keeps no set: files that were closed without being unregistered."""
    return [Difference(fd, key, "closed") for fd, key in sorted(keys.items()) if not is_open(fd)]
