"""The calls of the chapter select. See measure.py."""

from __future__ import annotations

import contextlib
import select
from typing import Any

import fastmux

from . import measure
from .measure import Candidate, Given, both, check, statement


def lists(library: Any, given: Given) -> dict[str, Candidate]:
    """With the sockets themselves and with their numbers."""
    fds = [sock.fileno() for sock in given.sockets]
    check([sock.fileno() for sock in library.select.select(given.sockets, [], [], 0)[0]], given.ready)
    check(library.select.select(fds, [], [], 0)[0], given.ready)
    text = "select(of, [], [], 0)"
    return {
        "sockets": statement(text, select=library.select.select, of=given.sockets),
        "ints": statement(text, select=library.select.select, of=fds),
    }


def timed(library: Any, given: Given) -> dict[str, Candidate]:
    """A call that would wait for a second if nothing were ready."""
    check([sock.fileno() for sock in library.select.select(given.sockets, [], [], 1.0)[0]], given.ready)
    return {"select": statement("select(of, [], [], 1.0)", select=library.select.select, of=given.sockets)}


def beyond(given: Given) -> dict[str, Candidate]:
    """More than the standard select.select can take, against what there is for that: a poll object that knows the
    sockets, and one that is told of them in each call, as select() is."""
    known = select.poll()
    for sock in given.sockets:
        known.register(sock, select.POLLIN)
    check([fd for fd, _ in known.poll(0)], given.ready)
    anew = "p = poll()\nfor sock in of: p.register(sock, 1)\np.poll(0)"
    candidates = {
        "poll": statement("known.poll(0)", known=known),
        "new poll": statement(anew, poll=select.poll, of=given.sockets),
    }
    with contextlib.suppress(ValueError):  # without the extension, the mirror refuses so many, too
        check([sock.fileno() for sock in fastmux.select.select(given.sockets, [], [], 0)[0]], given.ready)
        candidates["select"] = statement("select(of, [], [], 0)", select=fastmux.select.select, of=given.sockets)
    return candidates


if __name__ == "__main__":
    measure.main({"lists": both(lists), "timed": both(timed), "beyond": beyond})
