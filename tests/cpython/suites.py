"""The test modules of CPython, each with checks that it uses fastmux."""

from __future__ import annotations

from typing import NamedTuple


class Suite(NamedTuple):
    """A module of the interpreter's test package."""

    name: str
    #: Expressions that must be true in the patched process, with the names fastmux, ``suite`` (the loaded module) and
    #: every module in them.
    checks: tuple[str, ...]
    #: Additional resources of the test package.
    resources: tuple[str, ...] = ()
    #: The runs to compare with the plain interpreter: "patched" by fastmux.patch(), and "loop", also with
    #: fastmux.EventLoop.
    ways: tuple[str, ...] = ("patched",)


_ASYNCORE = ("asyncore.select.select is fastmux.select.select", "asyncore.select.poll is fastmux.select.poll")
#: With fastmux's selectors, and with its loop.
_ALL = ("patched", "loop")
_ASYNCIO = (
    "selectors.EpollSelector is fastmux.selectors.EpollSelector",
    "asyncio.selector_events.selectors.DefaultSelector is fastmux.selectors.DefaultSelector",
    "isinstance(asyncio.SelectorEventLoop()._selector, fastmux.selectors.EpollSelector)",
)
#: The checks of every "loop" run.
LOOP = (
    "asyncio.SelectorEventLoop is fastmux.EventLoop",
    "type(asyncio.new_event_loop()) is fastmux.EventLoop",
    "asyncio.new_event_loop()._uses_core",
)
#: Tests of Python 3.14 and newer that need private parts which the event loop does not have: suite -> test -> reason.
PRIVATE = {
    "test_asyncio.test_unix_events": {
        "PidfdChildWatcherTests.test_pidfd_closed_when_waitpid_raises": "replaces os.waitpid(), which is not called"
    },
    "test_asyncio.test_ssl": {
        "TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket": "reads transport._read_ready_cb"
    },
}
_LOOP_ONLY = [
    "context",
    "eager_task_factory",
    "futures",
    "futures2",
    "locks",
    "pep492",
    "protocols",
    "queues",
    "runners",
    "ssl",
    "sslproto",
    "staggered",
    "subprocess",
    "taskgroups",
    "tasks",
    "threads",
    "timeouts",
    "transports",
    "waitfor",
]

#: The longest first.
SUITES = [
    Suite("test_subprocess", ("subprocess._PopenSelector is fastmux.selectors.PollSelector",)),
    Suite(
        "test_selectors",
        (
            "suite.DefaultSelectorTestCase.SELECTOR is fastmux.selectors.DefaultSelector",
            "suite.SelectSelectorTestCase.SELECTOR is fastmux.selectors.SelectSelector",
            "suite.PollSelectorTestCase.SELECTOR is fastmux.selectors.PollSelector",
            "suite.EpollSelectorTestCase.SELECTOR is fastmux.selectors.EpollSelector",
        ),
    ),
    Suite("test_asyncio.test_events", _ASYNCIO, ways=_ALL),
    Suite("test_select", ("suite.select.select is fastmux.select.select",)),
    Suite("test_poll", ("suite.select.poll is fastmux.select.poll",)),
    Suite("test_epoll", ("suite.select.epoll is fastmux.select.epoll",)),
    # The network is the loopback interface.
    Suite("test_socketserver", ("socketserver._ServerSelector is fastmux.selectors.PollSelector",), ("network",)),
    Suite("test_asyncore", _ASYNCORE),
    Suite("test_asynchat", _ASYNCORE),
    Suite("test_asyncio.test_selector_events", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_sock_lowlevel", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_server", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_streams", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_base_events", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_unix_events", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_buffered_proto", _ASYNCIO, ways=_ALL),
    Suite("test_asyncio.test_sendfile", _ASYNCIO, ways=_ALL),
    *(Suite(f"test_asyncio.test_{name}", (), ("network",), ways=("loop",)) for name in _LOOP_ONLY),
]  # fmt: skip
