"""Tests whose names say on which event loop they pass: for pytest, with pytest-asyncio and anyio."""

import asyncio
import unittest

import pytest
from asgi import loop_class


def test_a_coroutine():
    async def main():
        return loop_class()

    assert asyncio.run(main()) == "fastmux.EventLoop"


@pytest.mark.asyncio
async def test_a_coroutine_of_pytest_asyncio():
    assert loop_class() == "fastmux.EventLoop"


@pytest.mark.anyio
async def test_a_coroutine_of_anyio():
    assert loop_class() == "fastmux.EventLoop"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_a_coroutine_of_unittest(self):
        assert loop_class() == "fastmux.EventLoop"
