"""Servers and clients from the package index on the event loop, in plain text and over TLS.

``nox -s programs`` installs them; without them these tests are skipped.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys

import pytest

import fastmux

TIMEOUT = 100


@pytest.fixture
def run():
    def run_main(main):
        return fastmux.run(asyncio.wait_for(main, TIMEOUT))

    return run_main


@pytest.fixture(scope="module")
def contexts():
    """TLS contexts of a server and a client that trust each other."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture(params=["clear", "tls"])
def security(request):
    return request.getfixturevalue("contexts") if request.param == "tls" else (None, None)


def test_aiohttp_answers_thousands_of_requests(run, security):
    aiohttp = pytest.importorskip("aiohttp")
    web = pytest.importorskip("aiohttp.web")
    clients, requests = 50, 40
    server_context, client_context = security

    async def answer(request):
        body = await request.read()
        return web.Response(body=body[::-1], headers={"X-Number": request.query["number"]})

    async def use(session, url, client):
        for request in range(requests):
            number = client * requests + request
            body = b"%d " % number * (1 + number % 5000)
            async with session.post(url, params={"number": number}, data=body) as response:
                assert response.status == 200
                assert response.headers["X-Number"] == str(number)
                assert await response.read() == body[::-1]

    async def main():
        application = web.Application()
        application.router.add_post("/", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "localhost", 0, ssl_context=server_context)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        url = f"{'https' if server_context else 'http'}://localhost:{port}/"
        connector = aiohttp.TCPConnector(limit=0, ssl=client_context or False)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(use(session, url, client) for client in range(clients)))
        await runner.cleanup()
        await asyncio.sleep(0.1 if server_context else 0)  # lets TLS connections close
        return type(asyncio.get_running_loop())

    assert run(main()) is fastmux.EventLoop


@pytest.mark.filterwarnings(
    # Python 3.10 leaves TLS transports to the garbage collector, on the standard loop, too.
    *(["ignore::pytest.PytestUnraisableExceptionWarning"] if sys.version_info < (3, 11) else ["error"])
)
def test_websockets_echo_thousands_of_messages(run, security):
    server_module = pytest.importorskip("websockets.asyncio.server")
    client_module = pytest.importorskip("websockets.asyncio.client")
    clients, messages = 50, 40
    server_context, client_context = security

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def use(url, client):
        async with client_module.connect(url, ssl=client_context) as connection:
            for number in range(messages):
                sent = f"{client} {number} " * (1 + (client * number) % 3000)
                await connection.send(sent)
                assert await connection.recv() == sent

    async def main():
        async with server_module.serve(echo, "localhost", 0, ssl=server_context) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"{'wss' if server_context else 'ws'}://localhost:{port}/"
            await asyncio.gather(*(use(url, client) for client in range(clients)))
        gc.collect()

    run(main())


def test_streams_start_tls_in_the_middle(run, contexts):
    """The handshake follows a line of plain text."""
    if sys.version_info < (3, 11):
        pytest.skip("StreamWriter.start_tls() is new in Python 3.11")
    server_context, client_context = contexts

    async def serve(reader, writer):
        greeting = await reader.readline()
        writer.write(b"go on\n")
        await writer.drain()
        await writer.start_tls(server_context)
        writer.write(greeting + await reader.readline())
        await writer.drain()
        writer.close()

    async def use(address):
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(b"hello\n")
        assert await reader.readline() == b"go on\n"
        await writer.start_tls(client_context, server_hostname="localhost")
        writer.write(b"in secret\n")
        received = await reader.read()
        writer.close()
        return received

    async def main():
        server = await asyncio.start_server(serve, "localhost", 0)
        address = server.sockets[0].getsockname()
        received = await asyncio.gather(*(use(address) for _ in range(100)))
        server.close()
        await asyncio.sleep(0.05)
        return set(received)

    assert run(main()) == {b"hello\nin secret\n"}


def test_debug_mode_and_optimization_change_nothing(run):
    """An echo in an interpreter of its own: in development mode with warnings as errors, and with -OO."""
    program = """
import asyncio, fastmux

async def serve(reader, writer):
    writer.write(await reader.read())
    await writer.drain()
    writer.close()

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # no warning on a busy machine
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(bytes(1_000_000))
    writer.write_eof()
    print(len(await reader.read()))
    writer.close()
    await writer.wait_closed()
    server.close()

fastmux.run(main())
"""
    for options in (["-X", "dev", "-W", "error"], ["-OO"]):
        done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.returncode, done.stderr) == ("1000000\n", 0, "")
