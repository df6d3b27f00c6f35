"""Kinds of files: other pollers, regular files and directories."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import select
import socket
import sys

import pytest

import fastmux
from fastmux import EXCLUSIVE, PRIORITY, READ, WRITE

TIMEOUT = 20.0


def test_a_poller_with_a_descriptor_can_be_watched_by_another(epoll_poller, make_poller, socketpair):
    ours, theirs = socketpair
    outer = make_poller()
    outer.register(epoll_poller, READ, "inner")
    epoll_poller.register(ours, READ)
    assert outer.poll(0) == []

    theirs.send(b"x")

    assert outer.select(TIMEOUT) == [(outer.get_key(epoll_poller), READ)]
    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    ours.recv(1)
    assert outer.poll(0) == []


def test_the_descriptor_of_a_poller_can_be_watched_by_the_standard_library(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ)
    idle = select.select([epoll_poller], [], [], 0)
    theirs.send(b"x")

    assert idle == ([], [], [])
    assert select.select([epoll_poller], [], [], TIMEOUT) == ([epoll_poller], [], [])


def test_an_event_loop_reports_urgent_data_through_a_poller(epoll_poller, tcp_pair):
    ours, theirs = tcp_pair
    epoll_poller.register(ours, PRIORITY)
    received = []

    async def main():
        loop = asyncio.get_running_loop()
        found = asyncio.Event()

        def on_ready():
            if epoll_poller.poll(0):
                received.append(ours.recv(1, socket.MSG_OOB))
                found.set()

        loop.add_reader(epoll_poller.fileno(), on_ready)
        theirs.send(b"ordinary data")
        for byte in (b"1", b"2"):
            found.clear()
            theirs.send(byte, socket.MSG_OOB)
            await asyncio.wait_for(found.wait(), TIMEOUT)
        loop.remove_reader(epoll_poller.fileno())

    fastmux.run(main())

    assert received == [b"1", b"2"]


def test_a_poller_cannot_watch_itself(epoll_poller):
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        epoll_poller.register(epoll_poller)

    assert len(epoll_poller) == 0


def test_two_pollers_cannot_watch_each_other(epoll_poller, make_poller):
    other = make_poller()
    epoll_poller.register(other)

    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        other.register(epoll_poller)

    assert len(other) == 0


def test_a_poller_cannot_be_watched_exclusively(epoll_poller, make_poller):
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        make_poller().register(epoll_poller, READ | EXCLUSIVE)


def test_pollers_on_poll_and_select_have_no_descriptor(scanning_poller):
    with pytest.raises(io.UnsupportedOperation, match=f"{scanning_poller.mechanism} has no descriptor of its own"):
        scanning_poller.fileno()


def test_the_descriptor_of_a_poller_is_not_inherited(epoll_poller):
    assert os.get_inheritable(epoll_poller.fileno()) is False


# Regular files


def test_regular_files_and_directories_are_refused_by_epoll(epoll_poller, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    with open(tmp_path / "file", "w") as file:
        for fileobj in (file, directory):
            with pytest.raises(PermissionError, match="regular files and directories are always ready") as raised:
                epoll_poller.register(fileobj)
            assert raised.value.errno == errno.EPERM
    os.close(directory)

    assert len(epoll_poller) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="select() takes sockets only")
def test_regular_files_are_always_ready_on_poll_and_select(scanning_poller, oracle, tmp_path):
    with open(tmp_path / "file", "w+") as file:
        scanning_poller.register(file, READ | WRITE)

        expected = oracle(scanning_poller.mechanism, {file.fileno(): READ | WRITE})

        assert expected == scanning_poller.poll(0) == [(file.fileno(), READ | WRITE)]


@pytest.mark.skipif(sys.platform != "win32", reason="other systems take every file")
def test_other_files_than_sockets_are_refused_on_windows(poller, tmp_path):
    ends = os.pipe()
    with open(tmp_path / "file", "w+") as file, open(ends[0], "rb"), open(ends[1], "wb"):
        for other in (file, *ends):
            with pytest.raises(OSError, match="select\\(\\) on Windows takes open sockets only"):
                poller.register(other)
    assert len(poller) == 0
    assert poller.poll(0) == []
