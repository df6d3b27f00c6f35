"""redis-py with Redis: over TCP, TLS and UNIX sockets."""

from __future__ import annotations

import asyncio
import os

import pytest

from .conftest import Service, find_program, service_folder

LARGE = os.urandom(8_000_000)


@pytest.fixture(scope="module")
def start(free_ports, certificates):
    """Start a server on two ports and a path; TLS is on the second port."""
    program = find_program("redis-server", "redis-server")
    with service_folder() as folder, free_ports(2) as ports:
        settings = {
            "bind": "127.0.0.1",
            "port": ports[0],
            "tls-port": ports[1],
            "tls-ca-cert-file": certificates.authority,
            "tls-cert-file": certificates.chain,
            "tls-key-file": certificates.key,
            "tls-auth-clients": "no",
            "unixsocket": folder / "socket",
            "dir": folder,
            "save": "",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]

        def start():
            return Service([program, *options], folder).wait_for(folder / "socket")

        start.places = {"tcp": ports[0], "tls": ports[1], "unix": folder / "socket"}
        yield start


@pytest.fixture
def server(start):
    with start() as service:
        yield service


@pytest.fixture(params=["tcp", "tls", "unix"])
def connect(request, start, certificates):
    redis = pytest.importorskip("redis.asyncio")
    place = start.places[request.param]
    if request.param == "unix":
        options = {"unix_socket_path": str(place)}
    elif request.param == "tls":
        options = {"host": "localhost", "port": place, "ssl": True, "ssl_ca_certs": certificates.authority}
    else:
        options = {"host": "127.0.0.1", "port": place}
    return lambda **more: redis.Redis(**options, socket_timeout=None, **more)


def test_large_values_both_ways(run, server, connect):
    async def main():
        async with connect() as client:
            await client.set("large", LARGE)
            assert await client.get("large") == LARGE
            assert await client.strlen("large") == len(LARGE)

    run(main())


def test_thousands_of_commands_in_one_pipeline(run, server, connect):
    async def main():
        async with connect() as client:
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(5000):
                    pipeline.set(f"key {number}", f"{number} " * (number % 100))
                    pipeline.get(f"key {number}")
                answers = await pipeline.execute()
            expected = [answer for number in range(5000) for answer in (True, b"%d " % number * (number % 100))]
            assert answers == expected
            assert len([key async for key in client.scan_iter("key *", count=500)]) == 5000
            await client.flushdb()

    run(main())


def test_many_clients_at_once(run, server, connect):
    """A transaction starts again if another client has changed the key."""
    exceptions = pytest.importorskip("redis.exceptions")

    async def use(client):
        for _ in range(10):
            await client.incr("counter")
            while True:
                async with client.pipeline() as transaction:
                    try:
                        await transaction.watch("total")
                        total = int(await transaction.get("total") or 0)
                        transaction.multi()
                        transaction.set("total", total + 1)
                        await transaction.execute()
                        break
                    except exceptions.WatchError:
                        pass

    async def main():
        async with connect() as client:
            await client.delete("counter", "total")
            await asyncio.gather(*(use(client) for _ in range(10)))
            assert await client.mget("counter", "total") == [b"100", b"100"]

    run(main())


def test_subscribers_receive_all_messages(run, server, connect):
    async def subscribe(client, ready):
        received = []
        async with client.pubsub() as subscription:
            await subscription.subscribe("news")
            async for message in subscription.listen():
                if message["type"] == "subscribe":
                    ready.release()
                    continue
                received.append(message["data"])
                if received[-1] == b"end":
                    break
        return received

    async def main():
        async with connect() as client:
            ready = asyncio.Semaphore(0)
            subscribers = [asyncio.ensure_future(subscribe(client, ready)) for _ in range(10)]
            for _ in subscribers:
                await ready.acquire()
            for number in range(200):
                assert await client.publish("news", number) == len(subscribers)
            await client.publish("news", "end")
            expected = [*(b"%d" % number for number in range(200)), b"end"]
            assert await asyncio.gather(*subscribers) == [expected] * len(subscribers)

    run(main())


def test_a_cancelled_command(run, server, connect):
    """The client can be used on."""

    async def main():
        async with connect() as client:
            for _ in range(3):
                waiting = asyncio.ensure_future(client.blpop("empty"))
                await asyncio.sleep(0.05)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await client.ping()
            assert await client.blpop("empty", timeout=0.05) is None

    run(main())


def test_a_killed_server(run, start, connect):
    """Commands fail, those that wait, too, and succeed when it runs again."""
    exceptions = pytest.importorskip("redis.exceptions")
    retry = pytest.importorskip("redis.asyncio.retry").Retry(pytest.importorskip("redis.backoff").NoBackoff(), 0)

    async def main():
        async with connect(retry=retry) as client:
            with start() as service:
                waiting = [asyncio.ensure_future(client.blpop("empty")) for _ in range(5)]
                while len(await client.client_list()) < 6:
                    await asyncio.sleep(0.01)
                service.process.kill()
                for task in waiting:
                    with pytest.raises(exceptions.ConnectionError):
                        await task
                with pytest.raises(exceptions.ConnectionError):
                    await client.ping()
            with start():
                assert await client.ping()

    run(main())
