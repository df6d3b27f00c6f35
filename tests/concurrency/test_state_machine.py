"""Random calls on pollers, with forks, lost descriptors and signal handlers that raise.

Each machine watches a few socket pairs, whose readiness is known. After each step the poller reports exactly the ready
ones, in the parent and in every child.

    python -m pytest tests/concurrency/test_state_machine.py --hypothesis-profile=thorough  # 500 examples each
"""

from __future__ import annotations

import gc
import os
import signal
import socket

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import fastmux

from .children import in_child

SLOTS = 3
slots = st.integers(0, SLOTS - 1)


class InterruptedWaitError(Exception):
    """Raised by a signal handler."""


def open_numbers():
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


class PollerMachine(RuleBasedStateMachine):
    #: Creates a poller with a fork policy.
    make: staticmethod
    #: The value of the event for writable files.
    write = fastmux.WRITE

    def __init__(self):
        super().__init__()
        self.pairs = [socket.socketpair() for _ in range(SLOTS)]
        self.bytes = [0] * SLOTS
        self.armed = False
        self.previous = signal.signal(signal.SIGALRM, self.interrupt)
        self.taken: list[tuple[int, int]] = []

    @initialize(policy=st.sampled_from(["rebuild", "share"]))
    def open(self, policy):
        self.policy = policy
        before = open_numbers()
        self.poller = self.make(policy)
        self.poller.select(0.0001)
        self.numbers = sorted(open_numbers() - before)
        self.interest: dict[int, int] = {}
        self.pending = False

    def teardown(self):
        signal.signal(signal.SIGALRM, self.previous)
        self.poller.close()
        self.check_the_taken_numbers()
        for fd, _ in self.taken:
            os.close(fd)
        for end in (end for pair in self.pairs for end in pair):
            end.close()

    def interrupt(self, signum, frame):
        if self.armed:
            raise InterruptedWaitError

    def expected(self):
        events = {slot: wanted & (bool(self.bytes[slot]) | self.write) for slot, wanted in self.interest.items()}
        return sorted((self.pairs[slot][0].fileno(), ready) for slot, ready in events.items() if ready)

    def check_reports(self, timeout=0):
        found = sorted((key.fd, events) for key, events in self.poller.select(timeout))
        assert found == self.expected()
        self.pending = False

    def check_the_taken_numbers(self):
        assert all((os.fstat(fd).st_ino, os.fstat(fd).st_size) == (inode, 0) for fd, inode in self.taken)

    @rule(slot=slots)
    def send(self, slot):
        self.pairs[slot][1].send(b"x")
        self.bytes[slot] += 1

    @rule(slot=slots)
    def receive(self, slot):
        if self.bytes[slot]:
            self.pairs[slot][0].recv(self.bytes[slot])
            self.bytes[slot] = 0

    @rule(slot=slots, read=st.booleans(), write=st.booleans())
    def watch(self, slot, read, write):
        change = self.poller.modify if slot in self.interest else self.poller.register
        events = (read | (self.write if write else 0)) or 1
        change(self.pairs[slot][0], events)
        self.interest[slot] = events

    @rule(slot=slots)
    def unwatch(self, slot):
        if self.interest.pop(slot, None):
            self.poller.unregister(self.pairs[slot][0])

    @rule()
    def look(self):
        self.check_reports()

    @rule()
    def wake_up(self):
        self.poller.wakeup()
        self.pending = True

    @precondition(lambda self: self.pending or self.expected())
    @rule()
    def wait(self):
        self.check_reports(None)

    @rule(microseconds=st.integers(1, 300))
    def raise_in_a_wait(self, microseconds):
        gc.disable()  # an exception in a callback of the collector would be lost
        self.armed = True
        try:
            # It repeats: a signal just before a wait goes to sleep does not interrupt it.
            signal.setitimer(signal.ITIMER_REAL, microseconds * 1e-6, 0.02)
            while True:
                self.poller.select(0 if self.pending or self.expected() else None)
                self.pending = False
        except InterruptedWaitError:
            self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        self.check_reports()

    @rule(lose=st.booleans())
    def fork(self, lose):
        def child():
            self.check_reports()
            self.poller.wakeup()
            self.check_reports(None)
            if lose:
                self.take_the_numbers()
            self.poller.close()
            self.check_the_taken_numbers()

        in_child(child)
        self.check_the_taken_numbers()

    def take_the_numbers(self):
        for fd in self.numbers:
            file = os.memfd_create("taken")
            if file != fd:
                os.dup2(file, fd)
                os.close(file)
            self.taken.append((fd, os.fstat(fd).st_ino))

    @precondition(lambda self: not self.taken)
    @rule(wake=st.booleans(), close=st.booleans())
    def lose(self, wake, close):
        """Close the descriptors of the poller, and go on with another one."""
        self.take_the_numbers()
        try:
            if wake:
                self.poller.wakeup()
            self.poller.select(0)
        except (OSError, ValueError):
            pass
        if close:
            self.poller.close()
        self.check_the_taken_numbers()
        interest = self.interest
        self.open(self.policy)  # drops the old one
        self.check_the_taken_numbers()
        for slot, events in interest.items():
            self.poller.register(self.pairs[slot][0], events)
        self.interest = interest


KINDS = [
    f"{cls.__name__}-{mechanism}" for cls in {fastmux.Poller, fastmux.StdlibPoller} for mechanism in cls.mechanisms
]


@pytest.mark.parametrize("kind", [*sorted(KINDS), "EpollSelector"])
def test_reports_stay_complete_in_every_process(kind):
    class Machine(PollerMachine):
        if kind == "EpollSelector":
            make = staticmethod(lambda policy: fastmux.selectors.EpollSelector(fork=policy))
            write = fastmux.selectors.EVENT_WRITE
        else:
            name, _, mechanism = kind.partition("-")
            make = staticmethod(
                lambda policy, name=name, mechanism=mechanism: getattr(fastmux, name)(mechanism, fork=policy)
            )

    if kind == "EpollSelector" and not hasattr(fastmux.selectors.EpollSelector, "wakeup"):
        pytest.skip("the standard selector has no wake-up")
    run_state_machine_as_test(
        Machine,
        settings=settings(
            deadline=None,
            max_examples=settings.default.max_examples // 4,  # forks are slow
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
