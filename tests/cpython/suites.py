"""Which of CPython's own test modules are run, and what must be fastmux's in each."""

from __future__ import annotations

from typing import NamedTuple


class Suite(NamedTuple):
    """A module of the interpreter's test package."""

    name: str
    #: Expressions that must hold once the module is loaded and patched; with the names fastmux, the loaded module as
    #: ``suite``, and every module that they mention.
    checks: tuple[str, ...]
    #: What the tests may use beyond the usual.
    resources: tuple[str, ...] = ()


_ASYNCORE = ("asyncore.select.select is fastmux.select.select", "asyncore.select.poll is fastmux.select.poll")
_ASYNCIO = (
    "selectors.EpollSelector is fastmux.selectors.EpollSelector",
    "asyncio.selector_events.selectors.DefaultSelector is fastmux.selectors.DefaultSelector",
    "isinstance(asyncio.SelectorEventLoop()._selector, fastmux.selectors.EpollSelector)",
)

#: Those that take long come first.
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
    Suite("test_asyncio.test_events", _ASYNCIO),
    Suite("test_select", ("suite.select.select is fastmux.select.select",)),
    Suite("test_poll", ("suite.select.poll is fastmux.select.poll",)),
    Suite("test_epoll", ("suite.select.epoll is fastmux.select.epoll",)),
    # Its network is the loopback interface.
    Suite("test_socketserver", ("socketserver._ServerSelector is fastmux.selectors.PollSelector",), ("network",)),
    Suite("test_asyncore", _ASYNCORE),
    Suite("test_asynchat", _ASYNCORE),
    Suite("test_asyncio.test_selector_events", _ASYNCIO),
    Suite("test_asyncio.test_sock_lowlevel", _ASYNCIO),
    Suite("test_asyncio.test_server", _ASYNCIO),
    Suite("test_asyncio.test_streams", _ASYNCIO),
    Suite("test_asyncio.test_base_events", _ASYNCIO),
    Suite("test_asyncio.test_unix_events", _ASYNCIO),
    Suite("test_asyncio.test_buffered_proto", _ASYNCIO),
    Suite("test_asyncio.test_sendfile", _ASYNCIO),
]  # fmt: skip
