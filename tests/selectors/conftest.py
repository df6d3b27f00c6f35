"""One selector of each kind."""

from __future__ import annotations

import pytest

import fastmux


@pytest.fixture(params=["EpollSelector", "PollSelector", "SelectSelector"])
def selector(request):
    with getattr(fastmux.selectors, request.param)() as made:
        yield made
