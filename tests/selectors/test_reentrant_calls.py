"""Methods of files and of data that use the selector during the call that calls them."""

from __future__ import annotations

import os

import pytest

from fastmux.selectors import EVENT_READ, EVENT_WRITE

#: More than a PollSelector has room for without an allocation.
MANY = 600


class Data:
    """Data that runs a function when it is compared, once."""

    def __init__(self, function):
        self.function = function

    def __ne__(self, other):
        function, self.function = self.function, list
        function()
        return True

    __hash__ = None


class File:
    """A file that runs a function when its descriptor is read, once."""

    def __init__(self, fd, function):
        self.fd = fd
        self.function = function

    def fileno(self):
        function, self.function = self.function, list
        function()
        return self.fd


@pytest.fixture
def pipe_ends():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def fill(selector, pipe_ends):
    """Register many descriptors, and wait until the selector has its largest result."""
    made = []

    def fill():
        for _ in range(MANY):
            made.append(os.dup(pipe_ends[0]))
            selector.register(made[-1], EVENT_READ)
        for _ in range(3):
            selector.select(0)

    yield fill
    for fd in made:
        os.close(fd)


def test_a_file_may_wait_while_it_is_registered(selector, pipe_ends, fill):
    file = File(pipe_ends[1], fill)
    key = selector.register(file, EVENT_WRITE, "data")

    assert selector.select(0) == [(key, EVENT_WRITE)]


def test_a_file_may_wait_while_it_is_modified(selector, pipe_ends, fill):
    file = File(pipe_ends[1], list)
    selector.register(file, EVENT_READ)
    file.function = fill
    key = selector.modify(file, EVENT_WRITE, "data")

    assert selector.select(0) == [(key, EVENT_WRITE)]


def test_a_file_may_wait_while_it_is_unregistered(selector, pipe_ends, fill):
    file = File(pipe_ends[1], list)
    key = selector.register(file, EVENT_WRITE)
    file.function = fill

    assert selector.unregister(file) is key
    assert selector.select(0) == []


def test_data_may_wait_while_it_is_compared(selector, pipe_ends, fill):
    selector.register(pipe_ends[1], EVENT_WRITE)
    data = Data(fill)
    key = selector.modify(pipe_ends[1], EVENT_WRITE, data)

    ((found, events),) = selector.select(0)
    assert found is key
    assert events == EVENT_WRITE
