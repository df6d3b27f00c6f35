"""Load on a TLS server: blocking sockets that send a request on every connection, then read all replies.

    python -m benchmarks.servers.tls_load HOST PORT CONNECTIONS SIZE SECONDS PID REPLY

SIZE bytes are sent and REPLY bytes are expected. A SIZE of 0 measures handshakes: each connection is closed at once. A
REPLY of 0 sends an HTTP request instead. Prints the number of requests, of wrong replies, and the CPU time of the
server process.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from time import clock_gettime_ns, monotonic_ns

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """A connection on which one request at a time is in flight."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext) -> None:
        sock = socket.create_connection(address, timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock)
        self.buffer = bytearray(1 << 20)

    def receive(self, count: int) -> bytes | bytearray:
        """Return so many bytes, or an HTTP response if count is 0."""
        data = b""
        while not count:
            data += self.sock.recv(65536)
            if data.endswith(b"!\n"):
                return data
        got, view = 0, memoryview(self.buffer)
        while got < count:
            part = self.sock.recv_into(view[got:count])
            if not part:
                return b""
            got += part
        return self.buffer[:got]


def expected(request: bytes, reply: int) -> bytes:
    return (request * (reply // len(request) + 1))[:reply]


def main() -> None:
    host, port, connections, size, seconds, pid, reply = sys.argv[1:]
    server_clock = ~int(pid) << 3 | 2  # clock_getcpuclockid(3): the CPU time of that process
    address, tls = (host, int(port)), context()
    message, count, wrong, requests = b"fastmux." * (int(size) // 8), int(reply), 0, 0
    clients = [Client(address, tls) for _ in range(int(connections) if message else 0)]
    answer = expected(message, count) if message else b""
    request = message if count else REQUEST
    warm = False
    before = clock_gettime_ns(server_clock)
    end = monotonic_ns() + int(float(seconds) * 1e9)
    while monotonic_ns() < end or not requests:
        if message:
            for client in clients:
                client.sock.sendall(request)
            for client in clients:
                data = client.receive(count)
                wrong += data != answer if count else not data.startswith(b"HTTP/1.1 200")
            requests += len(clients)
        else:
            Client(address, tls).sock.close()
            requests += 1
        if not warm:  # the first round is a warm-up
            warm, requests = True, 0
            before = clock_gettime_ns(server_clock)
    used = clock_gettime_ns(server_clock) - before
    print(json.dumps({"requests": requests, "wrong": wrong, "server_cpu_ns": used}))


if __name__ == "__main__":
    main()
