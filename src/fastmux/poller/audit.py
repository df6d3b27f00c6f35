"""The results of stats() and audit(), and the entries of the kernel's epoll set.

Imported at the first use of either, because few programs use them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from fastmux._original import SelectorKey, select

from .descriptors import is_open


class Stats(NamedTuple):
    """Counters since the poller was made; in a forked child, the parent's part included."""

    #: Completed waits, with or without events.
    waits: int
    #: Reported events.
    events: int
    #: Events of unregistered descriptors that the kernel reported and the poller dropped.
    stale_events: int
    #: epoll_ctl calls; 0 on poll and select.
    control_calls: int
    #: Calls of modify() that needed no epoll_ctl call.
    control_calls_avoided: int
    #: Waits ended by wakeup().
    wakeups: int
    #: Interruptions of waits that then continued: by a signal, or by stale events alone.
    interruptions: int
    #: Epoll sets made after a fork.
    renewals: int
    #: Enlargements of the ready arrays.
    growths: int


class Difference(NamedTuple):
    """A difference between a registration and the kernel's set."""

    fd: int
    #: The registration, or None if only the kernel has the descriptor.
    key: SelectorKey | None
    #: "closed": the file was closed without being unregistered.
    #: "missing": the kernel does not watch it; it was closed, and its number stands for another file.
    #: "events": the kernel watches for other events.
    #: "left over": the kernel watches a file that was closed while a duplicate of it stays open.
    problem: str


class Entry(NamedTuple):
    """An entry of an epoll set, as the kernel lists it."""

    fd: int
    events: int
    data: int
    inode: int | None
    device: int | None  # as the kernel encodes it


#: The bits that the kernel adds to every mask, and those that remain of a one-shot registration that has fired.
_ADDED: Final = 0x18  # ERROR, HANGUP
_FIRED: Final = 1 << 31 | 1 << 30 | 1 << 29  # EDGE, ONESHOT, EPOLLWAKEUP
_LINE: Final = re.compile(
    r"tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)(?:.* ino:([0-9a-f]+) sdev:([0-9a-f]+))?"
)


def entries_of(epoll_fd: int) -> list[Entry]:
    """Return the entries of an epoll set of this process; OSError where there is no /proc."""
    with open(f"/proc/self/fdinfo/{epoll_fd}", encoding="ascii") as info:
        return [
            Entry(
                int(fd), int(events, 16), int(data, 16), *((int(inode, 16), int(device, 16)) if inode else (None, None))
            )
            for fd, events, data, inode, device in _LINE.findall(info.read())
        ]


def has_fired(entry: Entry) -> bool:
    """Return whether this is a one-shot registration that has fired."""
    return entry.events & ~_FIRED == 0


def is_current(entry: Entry) -> bool:
    """Return whether the number still stands for the watched file."""
    try:
        file = os.fstat(entry.fd)
    except OSError:
        return False
    if entry.inode is None or entry.inode != file.st_ino:
        return entry.inode is None
    if entry.device == os.major(file.st_dev) << 20 | os.minor(file.st_dev):
        return True
    # Some file systems (btrfs, overlayfs) have one device for fstat() and another one in the list.
    with select.epoll() as probe:
        probe.register(entry.fd, 0)
        return entries_of(probe.fileno())[0].device == entry.device


def compare(keys: Mapping[int, SelectorKey], entries: Iterable[Entry]) -> list[Difference]:
    """Return the differences between registrations and the kernel's set."""
    differences = closed_files(keys)
    seen = {}
    for entry in entries:
        if entry.fd in keys and is_current(entry):
            seen[entry.fd] = entry
        else:
            differences.append(Difference(entry.fd, None, "left over"))
    for fd, key in keys.items():
        if fd not in seen:
            if is_open(fd):
                differences.append(Difference(fd, key, "missing"))
        elif (seen[fd].events ^ key.events) & ~_ADDED and not has_fired(seen[fd]):
            differences.append(Difference(fd, key, "events"))
    return sorted(differences, key=lambda difference: difference.fd)


def closed_files(keys: Mapping[int, SelectorKey]) -> list[Difference]:
    """Return the closed files: the only differences that can occur where the kernel keeps no set."""
    return [Difference(fd, key, "closed") for fd, key in sorted(keys.items()) if not is_open(fd)]
