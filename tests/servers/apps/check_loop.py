"""Tests whose names say on which event loop they pass: for pytest, with pytest-asyncio and anyio."""

import asyncio
import unittest

import pytest
from asgi import loop_class


def test_a_coroutine():
    async def main():
        return loop_class()

    assert "fastmux.EventLoop" == asyncio.run(main())


@pytest.mark.asyncio
async def test_a_coroutine_of_pytest_asyncio():
    assert "fastmux.EventLoop" == loop_class()


@pytest.mark.anyio
async def test_a_coroutine_of_anyio():
    assert "fastmux.EventLoop" == loop_class()


@pytest.fixture
def anyio_backend():
    return "asyncio"


class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_a_coroutine_of_unittest(self):
        self.assertEqual("fastmux.EventLoop", loop_class())
