"""aioquic, on both ends, and dnspython with the DNS server Unbound."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl

import pytest

from .conftest import Service, find_program, service_folder

# QUIC


@pytest.fixture
def serve(certificates):
    """Start a QUIC server that answers each stream, and return it with its port and a function that connects to it."""
    quic = pytest.importorskip("aioquic.asyncio")
    configuration = pytest.importorskip("aioquic.quic.configuration").QuicConfiguration

    async def serve(answer, idle_timeout=60.0):
        tasks = set()

        def handle(reader, writer):
            task = asyncio.ensure_future(answer(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server_side = configuration(is_client=False)
        server_side.load_cert_chain(certificates.chain, certificates.key)
        server = await quic.serve("127.0.0.1", 0, configuration=server_side, stream_handler=handle, retry=True)
        port = server._transport.get_extra_info("sockname")[1]

        def connect():
            client_side = configuration(server_name="localhost", idle_timeout=idle_timeout)
            client_side.load_verify_locations(certificates.authority)
            return quic.connect("127.0.0.1", port, configuration=client_side)

        return server, connect

    return serve


async def echo(reader, writer):
    while data := await reader.read(100_000):
        writer.write(data)
    writer.write_eof()


async def send_and_receive(connection, data):
    reader, writer = await connection.create_stream()
    writer.write(data)
    writer.write_eof()
    return await reader.read()


def test_quic_transfers_a_large_amount_both_ways(run, serve):
    data = os.urandom(1_000_000)

    async def main():
        server, connect = await serve(echo)
        async with connect() as connection:
            received = await send_and_receive(connection, data)
            assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        server.close()

    run(main())


def test_quic_has_many_streams_on_many_connections(run, serve):
    async def use(connect, number):
        async with connect() as connection:
            sent = [b"%d %d " % (number, stream) * 300 for stream in range(20)]
            assert await asyncio.gather(*(send_and_receive(connection, data) for data in sent)) == sent
            connection.change_connection_id()
            connection.request_key_update()
            await connection.ping()

    async def main():
        server, connect = await serve(echo)
        await asyncio.gather(*(use(connect, number) for number in range(5)))
        server.close()

    run(main())


def test_quic_loses_its_server(run, serve):
    """Streams end when the server closes the connection; nobody answers later."""

    async def never(reader, writer):
        await reader.read()
        writer.close()

    async def main():
        server, connect = await serve(never, idle_timeout=0.5)
        async with connect() as connection:
            reading = asyncio.ensure_future(send_and_receive(connection, b"hello"))
            await asyncio.sleep(0.05)
            server.close()
            assert await reading == b""
            await connection.wait_closed()
        with pytest.raises(ConnectionError):
            async with connect():
                pass

    run(main())


# DNS

NAMES = 300
LONG = [f"{number} " * 60 for number in range(40)]  # too long for a datagram


@pytest.fixture(scope="module")
def dns_ports(free_ports, certificates):
    """The ports of a DNS server: for UDP and TCP, and for TLS."""
    program = find_program("unbound", "unbound")
    with service_folder() as folder, free_ports(2) as ports:
        settings = {
            "chroot": '""',
            "directory": f'"{folder}"',
            "do-daemonize": "no",
            "incoming-num-tcp": 4 * NAMES,  # fewer and it drops clients that are slow
            "pidfile": '""',
            "tls-port": ports[1],
            "tls-service-key": f'"{certificates.key}"',
            "tls-service-pem": f'"{certificates.chain}"',
            "use-syslog": "no",
            "username": '""',
            "local-zone": "test. static",
        }
        lines = [f"{name}: {value}" for name, value in settings.items()]
        lines += [f"interface: 127.0.0.1@{port}" for port in ports]
        lines += [f'local-data: "name{number}.test. A 10.0.{number // 256}.{number % 256}"' for number in range(NAMES)]
        lines += [f"local-data: 'long.test. TXT \"{text}\"'" for text in LONG]
        configuration = folder / "unbound.conf"
        configuration.write_text("\n".join(["server:", *lines, "remote-control:", "control-enable: no", ""]))
        with Service([program, "-c", str(configuration)], folder) as service:
            yield [service.wait_for(port) and port for port in ports]


@pytest.fixture
def resolver(dns_ports):
    resolver = pytest.importorskip("dns.asyncresolver").Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], dns_ports[0]
    resolver.lifetime = 30.0
    return resolver


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_dns_answers_many_queries_at_once(run, resolver, tcp):
    async def ask(number):
        (answer,) = await resolver.resolve(f"name{number}.test", "A", tcp=tcp)
        return answer.address

    async def main():
        answers = await asyncio.gather(*(ask(number) for number in range(NAMES)))
        assert answers == [f"10.0.{number // 256}.{number % 256}" for number in range(NAMES)]

    run(main())


def test_dns_repeats_a_truncated_answer_over_tcp(run, resolver):
    async def main():
        answer = await resolver.resolve("long.test", "TXT")
        assert sorted(b"".join(text.strings).decode() for text in answer) == sorted(LONG)

    run(main())


def test_dns_errors(run, resolver):
    exceptions = pytest.importorskip("dns.resolver")

    async def main():
        with pytest.raises(exceptions.NXDOMAIN):
            await resolver.resolve("missing.test", "A")
        with pytest.raises(exceptions.NoAnswer):
            await resolver.resolve("long.test", "A")

    run(main())


def test_dns_without_a_server(run, free_ports):
    dns = pytest.importorskip("dns.asyncquery")
    exception = pytest.importorskip("dns.exception")
    message = pytest.importorskip("dns.message")

    async def main():
        query = message.make_query("name1.test", "A")
        with free_ports(1) as [port]:
            with pytest.raises(exception.Timeout):
                await dns.udp(query, "127.0.0.1", port=port, timeout=0.2)
            with pytest.raises(ConnectionRefusedError):
                await dns.tcp(query, "127.0.0.1", port=port, timeout=0.2)

    run(main())


def test_dns_over_tls(run, dns_ports, certificates):
    dns = pytest.importorskip("dns.asyncquery")
    message = pytest.importorskip("dns.message")

    async def ask(number):
        query = message.make_query(f"name{number}.test", "A")
        return await dns.tls(
            query, "127.0.0.1", port=dns_ports[1], ssl_context=certificates.client, server_hostname="localhost"
        )

    async def main():
        answers = await asyncio.gather(*(ask(number) for number in range(50)))
        assert [answer.answer[0][0].address for answer in answers] == [f"10.0.0.{number}" for number in range(50)]
        query = message.make_query("name1.test", "A")
        with pytest.raises(ssl.SSLCertVerificationError):
            await dns.tls(query, "127.0.0.1", port=dns_ports[1], timeout=20)  # an unknown authority

    run(main())
