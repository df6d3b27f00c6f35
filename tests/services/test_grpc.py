"""grpc.aio on both ends, over TCP, TLS and UNIX sockets. It waits in a thread of its own, which wakes the loop up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from .conftest import service_folder

LARGE = os.urandom(3_000_000)
OPTIONS = [("grpc.so_reuseport", 0)]


@pytest.fixture(scope="module")
def grpc():
    grpc = pytest.importorskip("grpc")
    aio = pytest.importorskip("grpc.aio")
    aio.init_grpc_aio()  # opens descriptors, which stay open
    yield grpc
    aio.shutdown_grpc_aio()


@pytest.fixture(params=["tcp", "tls", "unix"])
def serve(request, grpc, certificates):
    """Start a server; yield it with a channel to it."""

    async def reverse(request, context):
        if request == b"abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "on demand")
        if request == b"wait":
            await asyncio.sleep(1000)
        return request[::-1]

    async def count(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    async def add(requests, context):
        return b"%d" % sum([len(request) async for request in requests])

    async def echo(requests, context):
        async for request in requests:
            yield request

    handlers = {
        "reverse": grpc.unary_unary_rpc_method_handler(reverse),
        "count": grpc.unary_stream_rpc_method_handler(count),
        "add": grpc.stream_unary_rpc_method_handler(add),
        "echo": grpc.stream_stream_rpc_method_handler(echo),
    }

    @contextlib.asynccontextmanager
    async def serve():
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
        with service_folder() as folder:
            if request.param == "tls":
                authority, chain, key = (Path(name).read_bytes() for name in certificates[:3])
                port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
                channel = grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority))
            else:
                address = f"unix:{folder}/socket" if request.param == "unix" else "127.0.0.1:0"
                port = server.add_insecure_port(address)
                channel = grpc.aio.insecure_channel(address if request.param == "unix" else f"127.0.0.1:{port}")
            await server.start()
            try:
                async with channel:
                    yield server, channel
            finally:
                await server.stop(None)

    return serve


def test_thousands_of_calls(run, serve):
    async def main():
        async with serve() as (_, channel):
            reverse = channel.unary_unary("/test/reverse")
            assert await reverse(LARGE) == LARGE[::-1]
            for first in range(0, 1000, 100):
                sent = [b"%d " % number * (number % 500) for number in range(first, first + 100)]
                assert await asyncio.gather(*map(reverse, sent)) == [part[::-1] for part in sent]

    run(main())


def test_streams_in_each_direction(run, serve):
    async def parts():
        for start in range(0, len(LARGE), 50_000):
            yield LARGE[start : start + 50_000]

    async def main():
        async with serve() as (_, channel):
            numbers = [int(number) async for number in channel.unary_stream("/test/count")(b"1000")]
            assert numbers == list(range(1000))
            assert await channel.stream_unary("/test/add")(parts()) == b"%d" % len(LARGE)
            echo = channel.stream_stream("/test/echo")
            assert b"".join([part async for part in echo(parts())]) == LARGE
            call = echo()
            for number in range(200):
                await call.write(b"%d" % number)
                assert await call.read() == b"%d" % number
            await call.done_writing()

    run(main())


def test_calls_that_fail(run, serve, grpc):
    async def fail(call):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value.code()

    async def main():
        async with serve() as (server, channel):
            reverse = channel.unary_unary("/test/reverse")
            assert await fail(reverse(b"abort")) == grpc.StatusCode.DATA_LOSS
            assert await fail(reverse(b"wait", timeout=0.1)) == grpc.StatusCode.DEADLINE_EXCEEDED
            assert await fail(channel.unary_unary("/test/none")(b"")) == grpc.StatusCode.UNIMPLEMENTED
            call = reverse(b"wait")
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert call.cancelled()
            waiting = [reverse(b"wait") for _ in range(10)]
            await asyncio.sleep(0.05)
            await server.stop(None)
            assert await asyncio.gather(*map(fail, waiting)) == [grpc.StatusCode.UNAVAILABLE] * 10
            assert await fail(reverse(b"again")) == grpc.StatusCode.UNAVAILABLE

    run(main())
