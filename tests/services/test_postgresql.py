"""asyncpg and psycopg with PostgreSQL: over TCP, TLS and UNIX sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest

from .conftest import ACCOUNT, Service, find_program, service_folder

USER = "tester"
ROWS = 10_000
CONTENT = [(number, f"row {number}", os.urandom(number % 300)) for number in range(ROWS)]
DIGEST = hashlib.md5(b"".join(data for _, _, data in CONTENT)).hexdigest()
LARGE = os.urandom(12_000_000)
TABLE = "CREATE TEMPORARY TABLE items (number int, name text, data bytea)"
SUM = "SELECT md5(string_agg(data, '' ORDER BY number)) FROM items"


@pytest.fixture(scope="module")
def server(free_ports, certificates):
    """The folder and the port of a server."""
    postgres, initdb = (find_program(name, "postgresql") for name in ("postgres", "initdb"))
    with service_folder() as folder, free_ports(1) as [port]:
        chain, key = (shutil.copy(path, folder) for path in (certificates.chain, certificates.key))
        os.chmod(key, 0o600)
        for path in (folder, chain, key) if ACCOUNT else ():
            shutil.chown(path, **ACCOUNT)
        data = str(folder / "data")
        options = [f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run([initdb, *options, data], check=True, capture_output=True, cwd="/", **ACCOUNT)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "ssl": "on",
            "ssl_cert_file": chain,
            "ssl_key_file": key,
            "fsync": "off",
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        with Service([postgres, "-D", data, *options], folder, cwd="/", **ACCOUNT) as service:
            service.wait_for(port)
            yield folder, port


async def until_ready(connect, refusals):
    """Connect as soon as the server, which starts or restarts, lets clients in."""
    while True:
        try:
            return await connect()
        except refusals:
            await asyncio.sleep(0.02)


# asyncpg


@pytest.fixture(params=["tcp", "tls", "unix"])
def asyncpg_address(request, server, certificates):
    folder, port = server
    address = {
        "tcp": {"host": "127.0.0.1", "ssl": False},
        "tls": {"host": "localhost", "ssl": certificates.client},
        "unix": {"host": str(folder)},
    }[request.param]
    return {**address, "port": port, "user": USER, "database": "postgres"}


@pytest.fixture
def asyncpg_connect(asyncpg_address):
    asyncpg = pytest.importorskip("asyncpg")
    refusals = (asyncpg.CannotConnectNowError, ConnectionError)

    def connect():
        return until_ready(lambda: asyncpg.connect(**asyncpg_address), refusals)

    return connect


def test_asyncpg_transfers_large_amounts_both_ways(request, run, asyncpg_connect):
    if sys.version_info < (3, 11) and "standard-tls" in request.node.name:
        pytest.skip("TLS of Python 3.10 delivers data after pause_reading(), for which asyncpg is not prepared")

    async def main():
        connection = await asyncpg_connect()
        await connection.execute(TABLE)
        await connection.copy_records_to_table("items", records=CONTENT)
        assert await connection.fetchval(SUM) == DIGEST
        rows = await connection.fetch("SELECT * FROM items ORDER BY number")
        assert [tuple(row) for row in rows] == CONTENT

        copied = []

        async def keep(data):
            copied.append(data)

        await connection.copy_from_table("items", columns=["name"], output=keep)
        assert Counter(b"".join(copied).split(b"\n")[:-1]) == Counter(name.encode() for _, name, _ in CONTENT)
        async with connection.transaction():
            numbers = [row["number"] async for row in connection.cursor("SELECT number FROM items", prefetch=100)]
        assert sorted(numbers) == list(range(ROWS))

        await connection.executemany("UPDATE items SET name = $2 WHERE number = $1", [(0, str(n)) for n in range(300)])
        assert await connection.fetchval("SELECT name FROM items WHERE number = 0") == "299"
        assert await connection.fetchval("SELECT $1::bytea", LARGE) == LARGE
        await connection.close()

    run(main())


def test_asyncpg_runs_many_queries_at_once(run, asyncpg_address):
    asyncpg = pytest.importorskip("asyncpg")

    async def main():
        async with asyncpg.create_pool(**asyncpg_address, min_size=5, max_size=20) as pool:
            query = "SELECT $1::int * 2, repeat('x', $1)"
            answers = await asyncio.gather(*(pool.fetchrow(query, number) for number in range(1000)))
        assert [tuple(row) for row in answers] == [(number * 2, "x" * number) for number in range(1000)]

    run(main())


def test_asyncpg_is_notified(run, asyncpg_connect):
    async def main():
        listener, speaker = await asyncpg_connect(), await asyncpg_connect()
        received = asyncio.Queue()
        await listener.add_listener("news", lambda *arguments: received.put_nowait(arguments[2:]))
        for number in range(1000):
            await speaker.execute(f"NOTIFY news, '{number}'")
        assert [await received.get() for _ in range(1000)] == [("news", str(number)) for number in range(1000)]
        await listener.close()
        await speaker.close()

    run(main())


def test_asyncpg_cancels_a_query(run, asyncpg_connect):
    """The connection stays usable."""

    async def main():
        connection = await asyncpg_connect()
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("SELECT pg_sleep(1000)", timeout=0.05)
            query = asyncio.ensure_future(connection.fetch("SELECT pg_sleep(1000)"))
            await asyncio.sleep(0.05)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    run(main())


@pytest.mark.filterwarnings(
    # Python 3.10 leaves TLS transports to the garbage collector, on the standard loop, too.
    *(["ignore::pytest.PytestUnraisableExceptionWarning"] if sys.version_info < (3, 11) else ["error"])
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_asyncpg_loses_its_server_process(run, asyncpg_connect, number):
    asyncpg = pytest.importorskip("asyncpg")

    async def main():
        connection = await asyncpg_connect()
        query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
        await asyncio.sleep(0.05)
        os.kill(connection.get_server_pid(), number)
        with pytest.raises(asyncpg.ConnectionDoesNotExistError) as caught:
            await query
        # A process that is killed cannot say why.
        assert isinstance(caught.value.__cause__, asyncpg.AdminShutdownError) == (number == signal.SIGTERM)
        assert connection.is_closed()
        with pytest.raises(asyncpg.InterfaceError):
            await connection.fetchval("SELECT 1")

    run(main())


# psycopg, which adds the descriptors of libpq to the loop


@pytest.fixture(params=["tcp", "tls", "unix"])
def psycopg_connect(request, server, certificates):
    psycopg = pytest.importorskip("psycopg")
    folder, port = server
    address = {
        "tcp": {"host": "127.0.0.1", "sslmode": "disable"},
        "tls": {"host": "localhost", "sslmode": "verify-full", "sslrootcert": certificates.authority},
        "unix": {"host": str(folder)},
    }[request.param]

    async def connect():
        attempt = psycopg.AsyncConnection.connect
        options = {**address, "port": port, "user": USER, "dbname": "postgres", "autocommit": True}
        return await until_ready(lambda: attempt(**options), psycopg.OperationalError)

    return connect


def test_psycopg_transfers_large_amounts_both_ways(run, psycopg_connect):
    async def main():
        async with await psycopg_connect() as connection:
            await connection.execute(TABLE)
            async with connection.cursor() as cursor:
                async with cursor.copy("COPY items FROM STDIN") as copy:
                    for row in CONTENT:
                        await copy.write_row(row)
                await cursor.execute(SUM)
                assert await cursor.fetchone() == (DIGEST,)
                async with cursor.copy("COPY (SELECT name FROM items ORDER BY number) TO STDOUT") as copy:
                    assert [row async for row in copy.rows()] == [(name,) for _, name, _ in CONTENT]
                await cursor.execute("SELECT * FROM items ORDER BY number", binary=True)
                assert await cursor.fetchall() == CONTENT
                assert (await (await cursor.execute("SELECT %b::bytea", [LARGE])).fetchone()) == (LARGE,)

    run(main())


def test_psycopg_sends_queries_without_waiting_for_answers(run, psycopg_connect):
    async def use(number):
        async with await psycopg_connect() as connection:
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s::int + 1", [number + n]) for n in range(300)]
            return [(await cursor.fetchone())[0] for cursor in cursors]

    async def main():
        answers = await asyncio.gather(*(use(number) for number in range(10)))
        assert answers == [list(range(number + 1, number + 301)) for number in range(10)]

    run(main())


def test_psycopg_is_notified(run, psycopg_connect):
    async def main():
        async with await psycopg_connect() as listener, await psycopg_connect() as speaker:
            await listener.execute("LISTEN news")

            async def speak():
                for number in range(500):
                    await speaker.execute(f"NOTIFY news, '{number}'")

            speaking = asyncio.ensure_future(speak())
            received = [notify.payload async for notify in listener.notifies(stop_after=500, timeout=None)]
            assert received[:500] == [str(number) for number in range(500)]
            await speaking

    run(main())


def test_psycopg_cancels_a_query(run, psycopg_connect):
    psycopg = pytest.importorskip("psycopg")

    async def main():
        async with await psycopg_connect() as connection:
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
            await asyncio.sleep(0.05)
            await connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await query
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
            await asyncio.sleep(0.05)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

    run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_psycopg_loses_its_server_process(run, psycopg_connect, number):
    psycopg = pytest.importorskip("psycopg")

    async def main():
        async with await psycopg_connect() as connection:
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
            await asyncio.sleep(0.05)
            os.kill(connection.info.backend_pid, number)
            wanted = psycopg.errors.AdminShutdown if number == signal.SIGTERM else psycopg.OperationalError
            with pytest.raises(wanted):
                await query
            assert connection.broken

    run(main())
