"""The same operations on a poller and on the standard library: equal reports."""

from __future__ import annotations

import select
import selectors
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmux import EDGE, EXCLUSIVE, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE

#: The events of each mechanism, without EXCLUSIVE, whose reports depend on other epoll sets.
BITS = {
    "epoll": [READ, WRITE, PRIORITY, PEER_CLOSED, EDGE, ONESHOT],
    "poll": [READ, WRITE, PRIORITY, *([PEER_CLOSED] if sys.platform == "linux" else [])],
    "select": [READ, WRITE, PRIORITY],
}

bounded = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Reference:
    """The standard object for a mechanism, with the operations of a poller."""

    def __init__(self, mechanism):
        self.mechanism = mechanism
        self.interest = {}
        self.object = {"epoll": select.epoll, "poll": select.poll, "select": lambda: None}[mechanism]()

    def register(self, fd, events):
        self.interest[fd] = events
        if self.object is not None:
            self.object.register(fd, events)

    def modify(self, fd, events):
        self.interest[fd] = events
        if self.object is not None:
            self.object.modify(fd, events)

    def unregister(self, fd):
        del self.interest[fd]
        if self.object is not None:
            self.object.unregister(fd)

    def poll(self):
        if self.object is not None:
            return sorted(self.object.poll(0))
        found = {}
        bits = (READ, WRITE, PRIORITY)
        wanted = [[fd for fd, events in self.interest.items() if events & bit] for bit in bits]
        for bit, ready in zip(bits, select.select(*wanted, 0)):
            for fd in ready:
                found[fd] = found.get(fd, 0) | bit
        return sorted(found.items())

    def close(self):
        if self.mechanism == "epoll":
            self.object.close()


class World:
    """A few socket pairs, watched by a poller and by the standard library."""

    def __init__(self, poller, pairs):
        self.poller = poller
        self.reference = Reference(poller.mechanism)
        self.pairs = []
        for _ in range(pairs):
            pair = socket.socketpair()
            for end in pair:
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.pairs.append(pair)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.poller.close()
        self.reference.close()
        for pair in self.pairs:
            for end in pair:
                end.close()

    def do(self, operation, i, events):
        ours, theirs = self.pairs[i]
        fd = ours.fileno()
        try:
            if operation == "watch":
                name = "modify" if fd in self.poller else "register"
                getattr(self.poller, name)(ours, events)
                getattr(self.reference, name)(fd, events)
            elif operation == "unwatch":
                if fd in self.poller:
                    self.poller.unregister(ours)
                    self.reference.unregister(fd)
            elif operation == "send":
                theirs.send(b"x")
            elif operation == "receive":
                ours.recv(1)
            elif operation == "drain":
                ours.recv(65536)
            elif operation == "fill":
                while True:
                    ours.send(bytes(4096))
            elif operation == "empty":
                while theirs.recv(65536):
                    pass
            elif operation == "half-close":
                theirs.shutdown(socket.SHUT_WR)
            elif operation == "shut down":
                ours.shutdown(socket.SHUT_RDWR)
            elif operation == "close peer":
                theirs.close()
        except OSError:
            pass  # of the sockets (empty, full, not connected): the same for both sides

    def compare(self, ways):
        expected = self.reference.poll()
        for way in ways:
            actual = getattr(self, way)()
            assert expected == actual, way
            # A trigger does not report twice, so each way to wait compares with a new report of the reference.
            if self.reference.mechanism == "epoll":
                expected = self.reference.poll()

    def poll(self):
        return sorted(self.poller.poll(0))

    def select(self):
        found = self.poller.select(0)
        assert all(key is self.poller.get_key(key.fd) for key, _ in found)
        return sorted((key.fd, events) for key, events in found)

    def wait(self):
        n = self.poller.wait(0)
        return sorted(zip(self.poller.fds[:n], self.poller.events[:n]))


OPERATIONS = ["watch", "unwatch", "send", "receive", "drain", "fill", "empty", "half-close", "shut down", "close peer"]
WAYS = ["poll", "select", "wait"]
PAIRS = 4

# Mostly registrations: without them there is nothing to compare.
steps = st.lists(
    st.tuples(
        st.sampled_from(["watch", "watch", "watch", "send", "send", *OPERATIONS]),
        st.integers(0, PAIRS - 1),
        st.lists(st.integers(0, 5), max_size=3),
        st.permutations(WAYS),
    ),
    min_size=1,
    max_size=30,
)


@bounded
@given(steps=steps)
def test_random_operations_give_the_same_reports(make_poller, steps):
    bits = BITS[make_poller.mechanism]
    with World(make_poller(capacity=2), PAIRS) as world:
        for operation, i, choice, ways in steps:
            events = 0
            for number in choice:
                events |= bits[number % len(bits)]
            world.do(operation, i, events)
            world.compare(ways)


@pytest.mark.parametrize("files", [1, 3], ids=["one", "few"])
def test_a_registration_reports_each_new_state(make_poller, files):
    """Pairs are kept from one result to the next: never those of an old state."""
    with World(make_poller(), files) as world:
        for i in range(files):
            world.do("watch", i, READ | WRITE)
        for operation in ["send", "fill", "receive", "empty", "half-close", "shut down", "close peer"]:
            for i in range(files):
                world.do(operation, i, 0)
            world.compare(WAYS)


@bounded
@given(
    sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), min_size=1, max_size=8),
    capacity=st.integers(1, 8),
)
def test_random_sizes_of_results_leave_no_descriptor_out(make_poller, sizes, capacity):
    """With any maxevents, the minimum number of rounds reports every ready descriptor."""
    with World(make_poller(capacity=capacity), 12) as world:
        for i in range(len(world.pairs)):
            world.do("watch", i, READ)
        for count, maxevents in sizes:
            for i, (_, theirs) in enumerate(world.pairs):
                world.do("drain", i, 0)
                if i < count:
                    theirs.send(b"x")
            expected = world.reference.poll()
            seen = set()
            for _ in range(-(-count // maxevents)):
                seen.update(world.poller.poll(0, maxevents))
            assert expected == sorted(seen)


def combinations():
    """Yield every combination of events for one descriptor."""
    every = [READ, WRITE, PRIORITY, PEER_CLOSED, EDGE, ONESHOT, EXCLUSIVE]
    for number in range(1 << len(every)):
        yield sum(bit for i, bit in enumerate(every) if number >> i & 1)


def test_every_combination_of_events_is_taken_or_refused_as_by_the_kernel(epoll_poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    theirs.shutdown(socket.SHUT_WR)
    outcomes = {"expected": [], "actual": []}
    for events in combinations():
        with select.epoll() as reference:
            try:
                reference.register(ours, events)
                outcomes["expected"].append((events, reference.poll(0), reference.poll(0)))
            except OSError:
                outcomes["expected"].append((events, "refused"))
        try:
            epoll_poller.register(ours, events)
            outcomes["actual"].append((events, epoll_poller.poll(0), epoll_poller.poll(0)))
            epoll_poller.unregister(ours)
        except ValueError:
            outcomes["actual"].append((events, "refused"))

    assert outcomes["expected"] == outcomes["actual"]


def test_every_change_between_two_combinations_reports_as_a_fresh_registration(poller, socketpair):
    """After modify(), a descriptor reports as after register(), from any earlier events."""
    ours, theirs = socketpair
    theirs.send(b"x")
    possible = []
    for events in combinations():
        try:
            poller.register(ours, events)
        except ValueError:
            continue
        possible.append((events, poller.poll(0)))
        poller.unregister(ours)

    for before, _ in possible[::3]:
        for after, expected in possible:
            poller.register(ours, before)
            poller.poll(0)
            poller.modify(ours, after)
            assert expected == poller.poll(0), (hex(before), hex(after))
            poller.unregister(ours)


@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE], ids=["READ", "WRITE", "both"])
def test_the_keys_of_the_standard_selectors_are_the_same(poller, make_socketpair, events):
    """For READ and WRITE, select() returns the result of the standard selectors."""
    standard = getattr(selectors, f"{poller.mechanism.capitalize()}Selector")
    translate = {selectors.EVENT_READ: READ, selectors.EVENT_WRITE: WRITE, 3: READ | WRITE}
    to_standard = {ours: theirs for theirs, ours in translate.items()}
    with standard() as reference:
        for i in range(6):
            ours, theirs = make_socketpair()
            if i % 2:
                theirs.send(b"x")
            poller.register(ours, events, i)
            reference.register(ours, to_standard[events], i)

        expected = sorted((key.fd, key.data, translate[mask]) for key, mask in reference.select(0))

    assert expected == sorted((key.fd, key.data, mask) for key, mask in poller.select(0))
