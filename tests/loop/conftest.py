"""Event loops: fastmux's and the standard one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastmux

TIMEOUT = 20.0


@pytest.fixture(params=[fastmux.EventLoop, asyncio.SelectorEventLoop], ids=["fastmux", "standard"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop: fastmux's and the standard one."""
    loop = request.param()
    yield loop
    loop.close()


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Any], Any]:
    """Run a coroutine on the loop, with a timeout."""

    def run_main(main: Any) -> Any:
        return loop.run_until_complete(asyncio.wait_for(main, TIMEOUT))

    return run_main
