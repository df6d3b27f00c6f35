"""A plugin for pytest that runs asynchronous tests on ``fastmux.EventLoop``: ``pytest -p fastmux.pytest``.

It calls ``fastmux.install()``. So it works with pytest-asyncio, with anyio, and with unittest.IsolatedAsyncioTestCase,
unless a test selects another loop or policy. Without ``-p fastmux.pytest`` nothing is changed.
"""

from __future__ import annotations

import fastmux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pytest_configure(config: Any) -> None:
    fastmux.install()


def pytest_unconfigure(config: Any) -> None:
    fastmux.uninstall()


def pytest_report_header(config: Any) -> str:
    return f"fastmux: {fastmux.__version__}, implementation: {fastmux.implementation}"
