"""Level, edge, one-shot and exclusive."""

from __future__ import annotations

import pytest

from fastmux import EDGE, EXCLUSIVE, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE

TIMEOUT = 20.0


def drain(sock):
    """Read until the socket is empty."""
    received = b""
    while True:
        try:
            received += sock.recv(2)
        except BlockingIOError:
            return received


# Level


def test_level_reports_again_until_all_is_read(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours, READ)
    theirs.send(b"ab")

    reports = [poller.poll(0)]
    for _ in range(2):
        ours.recv(1)
        reports.append(poller.poll(0))

    assert reports == [[(ours.fileno(), READ)], [(ours.fileno(), READ)], []]


def test_level_reports_what_was_ready_before_registration(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    poller.register(ours, READ)

    assert poller.poll(0) == [(ours.fileno(), READ)]


# Edge


def test_edge_reports_once(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)
    theirs.send(b"x")

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    assert epoll_poller.poll(0) == []


def test_edge_reports_what_was_ready_before_registration(epoll_poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll_poller.register(ours, READ | EDGE)

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]


def test_edge_reports_again_on_new_data_though_the_old_is_unread(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)
    theirs.send(b"x")
    assert epoll_poller.poll(0)
    assert epoll_poller.poll(0) == []

    theirs.send(b"y")

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    assert drain(ours) == b"xy"


def test_a_reader_that_drains_misses_nothing_with_edge(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)

    received = b""
    for message in (b"a", b"bcd", b"efghi"):
        theirs.send(message)
        assert epoll_poller.poll(TIMEOUT) == [(ours.fileno(), READ)]
        received += drain(ours)

    assert received == b"abcdefghi"
    assert epoll_poller.poll(0) == []


def test_modify_asks_an_edge_registration_to_report_once_more(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)
    theirs.send(b"x")
    assert epoll_poller.poll(0)
    assert epoll_poller.poll(0) == []

    epoll_poller.modify(ours, READ | EDGE)

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    assert epoll_poller.poll(0) == []


def test_edge_for_both_directions_reports_all_that_holds(epoll_poller, socketpair):
    """An edge of one direction reports the other direction, too, if it is ready."""
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | WRITE | EDGE)
    assert epoll_poller.poll(0) == [(ours.fileno(), WRITE)]
    assert epoll_poller.poll(0) == []

    theirs.send(b"x")

    assert epoll_poller.poll(0) == [(ours.fileno(), READ | WRITE)]


def test_modify_from_edge_to_level_and_back(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)
    theirs.send(b"x")
    reports = [epoll_poller.poll(0), epoll_poller.poll(0)]
    epoll_poller.modify(ours, READ)
    reports += [epoll_poller.poll(0), epoll_poller.poll(0)]
    epoll_poller.modify(ours, READ | EDGE)
    reports += [epoll_poller.poll(0), epoll_poller.poll(0)]

    assert [len(report) for report in reports] == [1, 0, 1, 1, 1, 0]


# One-shot


def test_oneshot_reports_once_even_on_new_data(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    first = epoll_poller.poll(0)
    theirs.send(b"y")

    assert first == [(ours.fileno(), READ)]
    assert epoll_poller.poll(0) == []


def test_oneshot_stays_registered_after_its_report(epoll_poller, socketpair):
    ours, theirs = socketpair
    key = epoll_poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    assert epoll_poller.poll(0)

    assert epoll_poller.get_key(ours) is key


def test_modify_with_the_same_events_rearms_oneshot(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    for _ in range(3):
        assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
        assert epoll_poller.poll(0) == []
        epoll_poller.modify(ours, READ | ONESHOT)

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]


def test_modify_rearms_oneshot_for_other_events(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]

    epoll_poller.modify(ours, WRITE | ONESHOT)

    assert epoll_poller.poll(0) == [(ours.fileno(), WRITE)]


def test_oneshot_and_edge_together_report_once_until_rearmed(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | ONESHOT | EDGE)
    theirs.send(b"x")
    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    theirs.send(b"y")
    assert epoll_poller.poll(0) == []

    epoll_poller.modify(ours, READ | ONESHOT | EDGE)

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]


def test_a_disarmed_oneshot_does_not_report_a_hangup(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    assert epoll_poller.poll(0)

    theirs.close()

    assert epoll_poller.poll(0) == []


# Exclusive


@pytest.mark.parametrize("extra", [0, EDGE], ids=["alone", "with EDGE"])
def test_exclusive_reports_events(epoll_poller, socketpair, extra):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EXCLUSIVE | extra)
    theirs.send(b"x")

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    assert len(epoll_poller.poll(0)) == (0 if extra else 1)


@pytest.mark.parametrize(
    "extra", [ONESHOT, PRIORITY, PEER_CLOSED, ONESHOT | PEER_CLOSED], ids=["ONESHOT", "PRIORITY", "PEER_CLOSED", "two"]
)
def test_exclusive_is_refused_with_what_the_kernel_cannot_combine(epoll_poller, socketpair, extra):
    ours, _ = socketpair

    with pytest.raises(ValueError, match="EXCLUSIVE cannot be combined with"):
        epoll_poller.register(ours, READ | EXCLUSIVE | extra)
    assert len(epoll_poller) == 0

    epoll_poller.register(ours, READ)
    with pytest.raises(ValueError, match="EXCLUSIVE cannot be combined with"):
        epoll_poller.modify(ours, READ | EXCLUSIVE | extra)


def test_modify_to_exclusive_and_back(epoll_poller, socketpair):
    """The kernel cannot modify to or from EXCLUSIVE, so modify() removes and adds."""
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll_poller.register(ours, READ)

    reports = []
    for events in (READ | EXCLUSIVE, READ | WRITE | EXCLUSIVE, READ | EXCLUSIVE | EDGE, WRITE):
        assert epoll_poller.modify(ours, events).events == events
        reports.append(epoll_poller.poll(0))

    fd = ours.fileno()
    assert reports == [[(fd, READ)], [(fd, READ | WRITE)], [(fd, READ)], [(fd, WRITE)]]


def test_modify_that_changes_nothing_keeps_exclusive_working(epoll_poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    key = epoll_poller.register(ours, READ | EXCLUSIVE)

    assert epoll_poller.modify(ours, READ | EXCLUSIVE) is key
    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]


def test_modify_asks_an_exclusive_edge_registration_to_report_once_more(epoll_poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll_poller.register(ours, READ | EXCLUSIVE | EDGE)
    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]
    assert epoll_poller.poll(0) == []

    epoll_poller.modify(ours, READ | EXCLUSIVE | EDGE)

    assert epoll_poller.poll(0) == [(ours.fileno(), READ)]


def test_exclusive_wakes_at_least_one_of_several_pollers(epoll_poller, make_poller, socketpair):
    ours, theirs = socketpair
    pollers = [epoll_poller, make_poller(), make_poller()]
    for each in pollers:
        each.register(ours, READ | EXCLUSIVE)

    theirs.send(b"x")

    assert any(each.poll(0) == [(ours.fileno(), READ)] for each in pollers)


# Mechanisms without state


@pytest.mark.parametrize(("name", "trigger"), [("EDGE", EDGE), ("ONESHOT", ONESHOT), ("EXCLUSIVE", EXCLUSIVE)])
def test_triggers_are_refused_by_mechanisms_without_memory(scanning_poller, socketpair, name, trigger):
    ours, theirs = socketpair
    mechanism = scanning_poller.mechanism
    reason = f"{name} is not possible with {mechanism}: .*keeps? no state between calls"

    with pytest.raises(ValueError, match=reason):
        scanning_poller.register(ours, READ | trigger)
    assert len(scanning_poller) == 0

    key = scanning_poller.register(ours, READ)
    with pytest.raises(ValueError, match=reason):
        scanning_poller.modify(ours, READ | trigger)
    theirs.send(b"x")
    assert scanning_poller.select(0) == [(key, READ)]


def test_the_refusal_names_all_that_is_not_possible(scanning_poller, socketpair):
    with pytest.raises(ValueError, match=r"ONESHOT\|EDGE is not possible"):
        scanning_poller.register(socketpair[0], READ | EDGE | ONESHOT)
