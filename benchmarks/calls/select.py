"""Time select.select(), for the chapter select."""

from __future__ import annotations

import contextlib
import select
from typing import Any

import fastmux

from . import timing
from .timing import Candidate, Setup, both_libraries, check_ready, register, statement


def lists(library: Any, setup: Setup) -> dict[str, Candidate]:
    """Pass lists of sockets and of descriptors."""
    fds = [sock.fileno() for sock in setup.sockets]
    check_ready([sock.fileno() for sock in library.select.select(setup.sockets, [], [], 0)[0]], setup.ready)
    check_ready(library.select.select(fds, [], [], 0)[0], setup.ready)
    text = "select(files, [], [], 0)"
    return {
        "sockets": statement(text, select=library.select.select, files=setup.sockets),
        "ints": statement(text, select=library.select.select, files=fds),
    }


def with_timeout(library: Any, setup: Setup) -> dict[str, Candidate]:
    """Pass a timeout of one second while a descriptor is ready."""
    check_ready([sock.fileno() for sock in library.select.select(setup.sockets, [], [], 1.0)[0]], setup.ready)
    return {"select": statement("select(files, [], [], 1.0)", select=library.select.select, files=setup.sockets)}


def beyond_limit(setup: Setup) -> dict[str, Candidate]:
    """Exceed the limit of the standard select.select.

    The alternatives of the standard library: a poll object with all sockets registered, and a poll object that
    registers them in each call, as select() does.
    """
    registered = register(select.poll(), setup.sockets, select.POLLIN)
    check_ready([fd for fd, _ in registered.poll(0)], setup.ready)
    new_poll = "p = poll()\nfor sock in files: p.register(sock, 1)\np.poll(0)"
    candidates = {
        "poll": statement("registered.poll(0)", registered=registered),
        "new poll": statement(new_poll, poll=select.poll, files=setup.sockets),
    }
    with contextlib.suppress(ValueError):  # without the extension, fastmux has the standard limit
        check_ready([sock.fileno() for sock in fastmux.select.select(setup.sockets, [], [], 0)[0]], setup.ready)
        candidates["select"] = statement("select(files, [], [], 0)", select=fastmux.select.select, files=setup.sockets)
    return candidates


if __name__ == "__main__":
    timing.main({
        "lists": both_libraries(lists),
        "with timeout": both_libraries(with_timeout),
        "beyond limit": beyond_limit,
    })  # fmt: skip
