"""Beginning and end of TLS connections, start_tls() and errors, on both loops; the standard one is the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import struct
import sys

import pytest

import fastmux

from .connections import BufferedRecorder, Recorder, settle, until
from .tls_peer import CERTIFICATE, Peer, client_context, close_pair, server_context, tls_pair

SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
#: Python 3.10 has an older implementation, whose callbacks come in another order.
NEW = pytest.mark.skipif(sys.version_info < (3, 11), reason="another implementation in Python 3.10")
BIG = bytes(range(256)) * 4000


@pytest.fixture
def reports(loop):
    """The contexts of the exception handler, as (message, type of the exception)."""
    found = []
    loop.set_exception_handler(lambda _, context: found.append((context["message"], type(context.get("exception")))))
    return found


# Handshakes


@SIDES
def test_a_transport_knows_its_connection(run, server_side):
    def names(context):
        if context.protocol == ssl.PROTOCOL_TLS_SERVER:
            context.sni_callback = lambda sslobj, name, context: seen.append(name)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    seen = []

    async def main():
        ours, theirs = names(server_context()), names(client_context())
        if not server_side:
            ours, theirs = theirs, ours
        protocol, peer = await tls_pair(server_side=server_side, ours=ours, theirs=theirs)
        info = protocol.transport.get_extra_info
        tls = info("ssl_object")
        found = (
            info("sslcontext") is ours,
            tls.selected_alpn_protocol(),
            info("cipher") == tls.cipher(),
            info("compression"),
            (info("peercert") or {}).get("subject"),
            info("sockname"),
            type(info("socket")).__name__,
            info("other", 5),
            protocol.transport.get_protocol() is protocol,
            protocol.transport.is_closing(),
            protocol.transport.can_write_eof(),
        )
        await close_pair(protocol, peer)
        return found

    subject = None if server_side else ((("commonName", "localhost"),),)
    expected = (True, "h2", True, None, subject, "", "TransportSocket", 5, True, False, False)
    assert run(main()) == expected
    assert seen == ["localhost"]


def test_the_certificate_of_the_peer_is_verified(run, reports):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await tls_pair(ours=ssl.create_default_context())
        await settle()
        return caught.value.reason, reports

    assert run(main()) == ("CERTIFICATE_VERIFY_FAILED", [])


def test_a_server_survives_a_client_that_knows_no_certificate(run, reports):
    async def main():
        with pytest.raises(ssl.SSLError) as caught:
            await tls_pair(server_side=True, theirs=ssl.create_default_context())
        await settle()
        return caught.value.reason, reports

    assert run(main()) == ("TLSV1_ALERT_UNKNOWN_CA", [])


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b""])
def test_a_peer_without_tls_is_refused(run, reports, garbage):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(garbage)
            theirs.shutdown(socket.SHUT_WR)
            connecting = asyncio.get_running_loop().connect_accepted_socket(Recorder, ours, ssl=server_context())
            try:
                await connecting
            except (OSError, ssl.SSLError) as exc:
                error = type(exc)
            await settle()
        return error, reports

    assert run(main()) == (ssl.SSLError if garbage else ConnectionResetError, [])


@SIDES
def test_a_handshake_has_a_timeout(run, server_side):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            if server_side:
                made = loop.connect_accepted_socket(Recorder, ours, ssl=server_context(), ssl_handshake_timeout=0.05)
            else:
                made = loop.create_connection(
                    Recorder, sock=ours, ssl=client_context(), server_hostname="localhost", ssl_handshake_timeout=0.05
                )
            with pytest.raises(ConnectionAbortedError) as caught:
                await made
            await settle()
        return str(caught.value)

    assert run(main()) == "SSL handshake is taking longer than 0.05 seconds: aborting the connection"


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
def test_timeouts_are_positive(run, name, value):
    if sys.version_info < (3, 11) and name == "ssl_shutdown_timeout":
        pytest.skip("new in Python 3.11")

    async def main():
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(ValueError, match=f"{name} should be a positive number") as caught:
            await asyncio.get_running_loop().connect_accepted_socket(
                Recorder, ours, ssl=server_context(), **{name: value}
            )
        return str(caught.value)

    assert run(main()) == f"{name} should be a positive number, got {value}"


def test_a_cancelled_handshake_leaves_nothing(run):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            made = asyncio.ensure_future(
                asyncio.get_running_loop().connect_accepted_socket(Recorder, ours, ssl=server_context())
            )
            await settle()
            made.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await made
            await settle()
        gc.collect()
        return ours.fileno()

    assert run(main()) == -1


def test_data_may_be_written_in_connection_made(run):
    class Greeter(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    async def main():
        protocol, peer = await tls_pair(Greeter, server_side=True)
        received = await peer.receive(5)
        await close_pair(protocol, peer)
        return received

    assert run(main()) == b"hello"


@NEW
def test_data_behind_the_handshake_is_delivered_after_connection_made(run):
    """The last message of the client's handshake and its first data arrive together."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        peer = Peer(theirs, client_context())
        made = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, ours, ssl=server_context()))
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        await peer.flush()
        await peer.fill()
        peer.tls.do_handshake()
        peer.tls.write(b"early")
        await peer.flush()
        _, protocol = await made
        await until(lambda: protocol.data)
        await close_pair(protocol, peer)
        return protocol.events, protocol.data

    assert run(main()) == (["made", "data", "lost"], b"early")


def test_a_certificate_may_be_requested_after_the_handshake(run):
    """The answer to a message that contains no data."""

    async def main():
        ours, theirs = client_context(post_handshake_auth=True), server_context(post_handshake_auth=True)
        theirs.verify_mode = ssl.CERT_OPTIONAL
        ours.load_cert_chain(CERTIFICATE)
        theirs.load_verify_locations(CERTIFICATE)
        protocol, peer = await tls_pair(ours=ours, theirs=theirs)
        before = peer.tls.getpeercert()
        peer.tls.verify_client_post_handshake()
        await peer.send(peer.records(b"please"))
        await until(lambda: protocol.data)
        protocol.transport.write(b"done")
        received = await peer.receive(4)
        after = peer.tls.getpeercert()
        await close_pair(protocol, peer)
        return before, protocol.data, received, after["subject"]

    assert run(main()) == (None, b"please", b"done", ((("commonName", "localhost"),),))


# The end


@NEW
def test_close_sends_all_data_and_waits_for_the_answer(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.write(BIG)
        protocol.transport.write(b"end")
        protocol.transport.close()
        closing = protocol.transport.is_closing()
        received = await peer.receive(len(BIG) + 10)
        before = list(protocol.events)
        await peer.call(peer.tls.unwrap)
        error = await protocol.lost
        peer.sock.close()
        events = [event for event in protocol.events if event not in ("pause", "resume")]
        return closing, received == BIG + b"end", peer.closed, "lost" in before, error, events

    assert run(main()) == (True, True, "close_notify", False, None, ["made", "eof", "lost"])


def test_a_closed_connection_ignores_writes(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.close()
        protocol.transport.write(b"x" * 10)
        received = await peer.receive(10)
        peer.sock.close()
        await protocol.lost
        return received

    assert run(main()) == b""


@NEW
def test_close_notify_of_the_peer_ends_the_connection_after_its_data(run):
    async def main():
        protocol, peer = await tls_pair()
        data = peer.records(b"last")
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()
        await peer.send(data + peer.outgoing.read())
        error = await protocol.lost
        received = await peer.receive(1)
        peer.sock.close()
        return error, protocol.data, protocol.events, received

    assert run(main()) == (None, b"last", ["made", "data", "eof", "lost"], b"")


@NEW
def test_data_that_arrives_before_close_is_delivered(run):
    async def main():
        protocol, peer = await tls_pair()
        peer.sock.send(peer.records(b"in time"))
        asyncio.get_running_loop().call_soon(protocol.transport.close)
        await peer.receive(1)
        await peer.call(peer.tls.unwrap)
        error = await protocol.lost
        peer.sock.close()
        return error, protocol.data

    assert run(main()) == (None, b"in time")


@NEW
def test_data_in_flight_is_dropped_by_close(run, reports):
    """The peer has sent it before it sees close_notify."""

    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.close()
        await peer.send(peer.records(b"in flight"))
        error = await protocol.lost
        received = await peer.receive(1)
        peer.sock.close()
        return type(error), getattr(error, "reason", None), protocol.data, received, peer.closed, reports

    reason = "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    assert run(main()) == (ssl.SSLError, reason, b"", b"", "close_notify", [])


@NEW
@pytest.mark.parametrize("cut", [0, 10])
def test_a_peer_that_closes_without_close_notify(run, cut):
    """At the border of a record, or within one."""

    async def main():
        protocol, peer = await tls_pair()
        records = peer.records(b"first") + peer.records(b"second")[:cut]
        await peer.send(records)
        await until(lambda: protocol.data)
        peer.sock.close()
        error = await protocol.lost
        return error, protocol.data, protocol.events

    assert run(main()) == (None, b"first", ["made", "data", "eof", "lost"])


@NEW
def test_a_reset_of_the_peer_is_an_error(run, reports):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        client.setblocking(False)
        peer = Peer(client, client_context())
        made = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, server, ssl=server_context()))
        await peer.call(peer.tls.do_handshake)
        _, protocol = await made
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        error = await protocol.lost
        return type(error), protocol.events, reports

    assert run(main()) == (ConnectionResetError, ["made", "lost"], [])


@NEW
def test_a_damaged_record_ends_the_connection(run, reports):
    async def main():
        protocol, peer = await tls_pair()
        records = bytearray(peer.records(b"good", b"bad"))
        records[-1] ^= 1
        await peer.send(records)
        error = await protocol.lost
        peer.sock.close()
        assert error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")  # OpenSSL 3.5
        return type(error), protocol.data, protocol.events, reports

    assert run(main()) == (ssl.SSLError, b"", ["made", "lost"], [])


def test_abort_drops_what_waits(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.write(BIG * 4)
        protocol.transport.abort()
        protocol.transport.abort()
        protocol.transport.write(b"ignored")
        error = await protocol.lost
        received = await peer.receive(len(BIG) * 4)
        peer.sock.close()
        return error, len(received) < len(BIG) * 4, protocol.transport.is_closing()

    assert run(main()) == (None, True, True)


@NEW
def test_shutdown_has_a_timeout(run):
    async def main():
        protocol, peer = await tls_pair(ssl_shutdown_timeout=0.05)
        protocol.transport.close()
        error = await protocol.lost
        peer.sock.close()
        return type(error), str(error)

    assert run(main()) == (asyncio.TimeoutError, "SSL shutdown timed out")


@NEW
def test_writes_to_a_lost_connection_are_logged(run, caplog):
    async def main():
        protocol, peer = await tls_pair()
        await close_pair(protocol, peer)
        for _ in range(10):
            protocol.transport.write(b"x")

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main())

    assert {record.getMessage() for record in caplog.records} == {"SSL connection is closed"}


@NEW
def test_a_true_result_of_eof_received_has_no_effect(run, caplog):
    class KeepOpen(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        protocol, peer = await tls_pair(KeepOpen)
        peer.sock.close()
        await protocol.lost
        return protocol.events

    with caplog.at_level(logging.WARNING, "asyncio"):
        assert run(main()) == ["made", "eof", "lost"]
    assert [record.getMessage() for record in caplog.records] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


@NEW
def test_a_dropped_transport_warns(run):
    async def main():
        protocol, peer = await tls_pair()
        with pytest.warns(ResourceWarning) as warned:
            protocol.transport.__del__()
        await close_pair(protocol, peer)
        return [str(warning.message) for warning in warned]

    assert run(main()) == ["unclosed transport <asyncio._SSLProtocolTransport object>"]


# Callbacks that change or fail


@NEW
@pytest.mark.parametrize("name", ["data_received", "buffer_updated", "get_buffer"])
def test_an_exception_in_a_callback_ends_the_connection(run, reports, name):
    class Failing(Recorder if name == "data_received" else BufferedRecorder):
        armed = False

        def __getattribute__(self, attribute):
            return fail if attribute == name else super().__getattribute__(attribute)

    def fail(argument):
        if Failing.armed:
            raise ZeroDivisionError
        return bytearray(10)

    async def main():
        protocol, peer = await tls_pair(Failing)
        Failing.armed = True
        await peer.send(peer.records(b"one"))
        error = await protocol.lost
        peer.sock.close()
        return type(error), reports

    assert run(main()) == (ZeroDivisionError, [("Fatal error on SSL protocol", ZeroDivisionError)])


async def end_by(error):
    """Raise an error in data_received(). Return the type of the error with which the connection ends."""

    class Failing(Recorder):
        def data_received(self, data):
            raise error

    protocol, peer = await tls_pair(Failing)
    await peer.send(peer.records(b"one"))
    lost = await protocol.lost
    peer.sock.close()
    return type(lost)


@NEW
def test_a_cancelled_error_of_a_callback_ends_the_connection(run, reports):
    assert run(end_by(asyncio.CancelledError)) is asyncio.CancelledError
    assert reports == [("Fatal error: protocol.buffer_updated() call failed.", asyncio.CancelledError)]


@NEW
def test_an_exception_in_connection_made_ends_the_connection(run, reports):
    class Failing(Recorder):
        def connection_made(self, transport):
            self.transport = transport
            raise ZeroDivisionError

    async def main():
        with pytest.raises(ZeroDivisionError):
            await tls_pair(Failing, server_side=True)
        await settle()
        return reports

    assert run(main()) == [("Fatal error: protocol.buffer_updated() call failed.", ZeroDivisionError)]


@NEW
@pytest.mark.parametrize("error", [ssl.SSLWantReadError, ssl.SSLSyscallError])
def test_a_tls_error_of_the_application_is_an_error(run, error):
    assert run(end_by(error)) == error


@NEW
@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_callback_may_end_the_connection(run, end):
    async def main():
        protocol, peer = await tls_pair(lambda: Recorder(lambda protocol: getattr(protocol.transport, end)()))
        await peer.send(peer.records(b"one"))
        received = await peer.receive(1)
        with contextlib.suppress(ssl.SSLError, EOFError, ConnectionError):
            await peer.call(peer.tls.unwrap)
        error = await protocol.lost
        peer.sock.close()
        return error, protocol.data, received, protocol.events

    eof = ["eof"] if end == "close" else []
    assert run(main()) == (None, b"one", b"", ["made", "data", *eof, "lost"])


def test_a_callback_may_write_much_and_pause(run):
    def react(protocol):
        protocol.transport.pause_reading()
        for _ in range(3):
            protocol.transport.write(BIG)
        protocol.transport.resume_reading()

    async def main():
        protocol, peer = await tls_pair(lambda: Recorder(react))
        await peer.send(peer.records(b"one"))
        received = await peer.receive(3 * len(BIG))
        await close_pair(protocol, peer)
        return received == 3 * BIG

    assert run(main())


# start_tls()


@SIDES
def test_a_connection_continues_over_tls(run, server_side):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        plain, protocol = await loop.create_connection(Recorder, sock=ours)
        await loop.sock_sendall(theirs, b"plain")
        await until(lambda: protocol.data)
        peer = Peer(theirs, client_context() if server_side else server_context(), not server_side)
        upgrading = loop.start_tls(
            plain,
            protocol,
            server_context() if server_side else client_context(),
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        transport, _ = await asyncio.gather(upgrading, peer.call(peer.tls.do_handshake))
        protocol.transport = transport
        await peer.send(peer.records(b" secret"))
        await until(lambda: protocol.data == b"plain secret")
        transport.write(b"answer")
        received = await peer.receive(6)
        events = list(protocol.events)
        await close_pair(protocol, peer)
        return events, received, transport.get_extra_info("ssl_object") is not None

    assert run(main()) == (["made", "data", "data"], b"answer", True)


def test_start_tls_fails_with_the_handshake(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        plain, protocol = await loop.create_connection(Recorder, sock=ours)
        theirs.sendall(b"no TLS at all\r\n")
        with theirs, pytest.raises(ssl.SSLError) as caught:
            await loop.start_tls(plain, protocol, client_context(), server_hostname="localhost")
        await settle()
        return caught.value.reason, plain.is_closing()

    assert run(main()) == ("WRONG_VERSION_NUMBER", True)


def test_start_tls_refuses_other_objects(run):
    async def main():
        loop = asyncio.get_running_loop()
        protocol, peer = await tls_pair()
        messages = []
        for transport, context in [(protocol.transport, None), (object(), client_context())]:
            with pytest.raises(TypeError) as caught:
                await loop.start_tls(transport, protocol, context)
            messages.append(str(caught.value).partition("<")[0])
        await close_pair(protocol, peer)
        return messages

    assert run(main()) == ["sslcontext is expected to be an instance of ssl.SSLContext, got None", "transport "]


@NEW
@pytest.mark.skipif(fastmux.implementation != "c", reason="up to the version of the standard library")
def test_start_tls_takes_what_a_stream_has_received_of_the_handshake():
    async def serve(reader, writer):
        await reader.readline()
        await until(lambda: reader._buffer)
        await writer.start_tls(server_context())
        writer.write(await reader.readexactly(4))
        writer.close()

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            sock = socket.create_connection(server.sockets[0].getsockname())
            sock.setblocking(False)
            peer = Peer(sock, client_context(), False)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.do_handshake()
            await peer.send(b"STARTTLS\n" + peer.outgoing.read())
            await peer.call(peer.tls.do_handshake)
            await peer.send(peer.records(b"ping"))
            received = await peer.receive(4)
            sock.close()
        return received

    with contextlib.closing(fastmux.EventLoop()) as loop:
        assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == b"ping"


# Accepted connections


def refused(run, send=b"", factory=Recorder, **options):
    """Return whether a server closes a connection, and whether it goes on."""

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context(), **options)
        results = []
        async with server:
            for _ in range(2):
                with socket.create_connection(server.sockets[0].getsockname()) as client:
                    client.setblocking(False)
                    client.send(send)
                    with contextlib.suppress(ConnectionResetError):
                        while await loop.sock_recv(client, 1000):
                            pass
                results.append("closed")
        await settle()
        gc.collect()
        return results

    return run(main()) == ["closed", "closed"]


def test_an_accepted_connection_without_tls_is_closed(run, reports):
    assert refused(run, b"GET / HTTP/1.1\r\n\r\n")
    assert reports == []


def test_an_accepted_connection_has_a_timeout_of_the_handshake(run, reports):
    assert refused(run, ssl_handshake_timeout=0.05)
    assert reports == []


@NEW
def test_an_accepted_connection_whose_protocol_cannot_be_made_is_closed(loop, run, reports):
    if not isinstance(loop, fastmux.EventLoop) or fastmux.implementation != "c":
        pytest.skip("the standard loop leaves the socket to the garbage collector")

    def fail():
        raise ValueError("no protocol")

    assert refused(run, b"x", fail)
    assert reports == []


def test_a_subclass_may_make_the_transports_of_accepted_connections():
    for base in (fastmux.EventLoop, asyncio.SelectorEventLoop):

        class Loop(base):
            made = 0

            def _make_ssl_transport(self, *args, **options):
                self.made += 1
                return super()._make_ssl_transport(*args, **options)

        with contextlib.closing(Loop()) as loop:
            assert refused(loop.run_until_complete, b"GET / HTTP/1.1\r\n\r\n")
            assert loop.made == 2, base


@NEW
def test_tls_works_within_tls(run):
    class Tunnel(Peer):
        """A peer whose bytes go through another one."""

        async def flush(self):
            if data := self.outgoing.read():
                await outer.send(outer.records(data))

        async def fill(self):
            before = len(outer.received)
            await outer.receive(before + 1)
            self.incoming.write(outer.received[before:])
            return len(outer.received) > before

    async def main():
        nonlocal outer
        protocol, outer = await tls_pair()
        inner = Tunnel(outer.sock, server_context(), True)
        upgrading = asyncio.get_running_loop().start_tls(
            protocol.transport, protocol, client_context(), server_hostname="localhost"
        )
        protocol.transport, _ = await asyncio.gather(upgrading, inner.call(inner.tls.do_handshake))
        await outer.send(outer.records(inner.records(b"ping", BIG)))
        await until(lambda: len(protocol.data) == len(BIG) + 4)
        protocol.transport.write(BIG)
        protocol.transport.write(b"pong")
        received = await inner.receive(len(BIG) + 4)
        await close_pair(protocol, outer)
        return protocol.data == b"ping" + BIG, received == BIG + b"pong"

    outer = None
    assert run(main()) == (True, True)


def test_streams_speak_tls(run):
    async def echo(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(1000))
                await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        async with server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
            )
            writer.write(BIG)
            received = await reader.readexactly(len(BIG))
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            await asyncio.sleep(0.05)
        return received == BIG

    assert run(main())
