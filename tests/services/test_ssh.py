"""asyncssh on both ends: commands, files, forwarded ports and tunnels."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from .conftest import service_folder

LARGE = os.urandom(4_000_000)


@pytest.fixture(scope="module")
def keys():
    """The keys of a server and of a client."""
    asyncssh = pytest.importorskip("asyncssh")
    return [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]


@pytest.fixture
def serve(keys, tmp_path):
    """Start a server; yield a function that connects to it."""
    asyncssh = pytest.importorskip("asyncssh")
    server_key, client_key = keys

    class Permissive(asyncssh.SSHServer):
        def connection_requested(self, *addresses):
            return True

        def server_requested(self, *address):
            return True

    async def answer(process):
        """Send the input back; the command is the exit status, or ``abort``."""
        if process.command == "abort":
            process.channel.get_connection().abort()
            return
        with contextlib.suppress(asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            while data := await process.stdin.read(100_000):
                process.stdout.write(data)
                await process.stdout.drain()
        process.exit(int(process.command))

    @contextlib.asynccontextmanager
    async def serve():
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Permissive,
            server_host_keys=[server_key],
            authorized_client_keys=asyncssh.import_authorized_keys(client_key.export_public_key().decode()),
            process_factory=answer,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=tmp_path),
            encoding=None,
        )

        def connect(**options):
            port = server.get_port()
            known = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {server_key.export_public_key().decode()}")
            options = {"known_hosts": known, "client_keys": [client_key], "config": None, "username": "me", **options}
            return asyncssh.connect("127.0.0.1", port, **options)

        async with server:
            yield connect

    return serve


async def echo(reader, writer):
    """Serve plain TCP or a UNIX socket behind a forwarded port."""
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def send_and_receive(reader, writer, data):
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    received = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    return received


def test_commands_get_and_send_large_amounts(run, serve):
    async def main():
        async with serve() as connect, connect() as connection:
            done = await connection.run("7", input=LARGE, encoding=None)
            assert (done.stdout, done.exit_status) == (LARGE, 7)
            many = [connection.run(str(number), input=b"%d " % number * 5000, encoding=None) for number in range(10)]
            for number, done in enumerate(await asyncio.gather(*many)):
                assert (done.stdout, done.exit_status) == (b"%d " % number * 5000, number)

    run(main())


def test_files_are_copied_both_ways(run, serve, tmp_path):
    async def main():
        (tmp_path / "sent").write_bytes(LARGE)
        async with serve() as connect, connect() as connection, connection.start_sftp_client() as sftp:
            await sftp.mkdir("folder")
            await sftp.put(tmp_path / "sent", "folder/there")
            assert (tmp_path / "folder" / "there").read_bytes() == LARGE
            await sftp.get("folder/there", tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == LARGE
            assert sorted(await sftp.listdir("folder")) == [".", "..", "there"]

    run(main())


def test_ports_and_paths_are_forwarded(run, serve):
    """From the client, from the server, by a path and by a proxy."""
    data = [LARGE[:1_000_000], *(b"%d " % number * 1000 for number in range(20))]

    async def use(connect):
        clients = [await connect() for _ in data]
        assert await asyncio.gather(*(send_and_receive(*client, part) for client, part in zip(clients, data))) == data

    async def main():
        target = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = target.sockets[0].getsockname()[1]
        with service_folder() as folder:
            path = str(folder / "socket")
            async with serve() as connect, connect() as connection:
                local = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
                remote = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
                by_path = await connection.forward_local_path_to_port(path, "127.0.0.1", port)
                socks = await connection.forward_socks("127.0.0.1", 0)

                async def connect_by_proxy():
                    reader, writer = await asyncio.open_connection("127.0.0.1", socks.get_port())
                    writer.write(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + port.to_bytes(2, "big"))
                    assert (await reader.readexactly(12))[:4] == b"\5\0\5\0"
                    return reader, writer

                for listener in (local, remote):
                    await use(lambda listener=listener: asyncio.open_connection("127.0.0.1", listener.get_port()))
                await use(lambda: asyncio.open_unix_connection(path))
                await use(connect_by_proxy)
                for listener in (local, remote, by_path, socks):
                    listener.close()
                    await listener.wait_closed()
        target.close()
        await target.wait_closed()

    run(main())


def test_a_connection_through_another(run, serve):
    async def main():
        async with serve() as connect, connect() as outer, connect(tunnel=outer) as inner:
            done = await inner.run("0", input=LARGE[:1_000_000], encoding=None)
            assert done.stdout == LARGE[:1_000_000]

    run(main())


def test_refused_keys_and_lost_connections(run, serve):
    asyncssh = pytest.importorskip("asyncssh")

    async def main():
        async with serve() as connect:
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(client_keys=[asyncssh.generate_private_key("ssh-ed25519")])
            with pytest.raises(asyncssh.HostKeyNotVerifiable):
                await connect(known_hosts=([], [], []))
            end = asyncio.get_running_loop().create_future()

            class Client(asyncssh.SSHClient):
                def connection_lost(self, error):
                    end.set_result(error)

            async with connect(client_factory=Client) as connection:
                others = [asyncio.ensure_future(connection.run("0", stdin=asyncssh.PIPE)) for _ in range(5)]
                lost = await connection.run("abort")
                assert lost.exit_status is None
                assert [done.exit_status for done in await asyncio.gather(*others)] == [None] * 5
                assert isinstance(await end, asyncssh.ConnectionLost)
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.run("0")

    run(main())
