"""Load generator in Python, the fallback where echo.c cannot be compiled.

Same output and arguments as echo.c, except the optional ones:
``python echo_fallback.py HOST PORT CONNECTIONS SIZE SECONDS PID``.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
from time import clock_gettime_ns, monotonic_ns


class Client:
    """One connection with one message at a time in flight, which is compared when it is back."""

    def __init__(self, address: tuple[str, int], number: int, size: int) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        self.sequence = 0
        self.size = size
        self.message = b""
        self.received = 0
        self.sent_at = 0

    def send(self) -> bool:
        letter = b"a"[0] + (self.number + self.sequence) % 26
        self.message = struct.pack("II", self.number, self.sequence) + bytes([letter]) * (self.size - 8)
        self.received = 0
        self.sent_at = monotonic_ns()
        with contextlib.suppress(OSError):
            return self.sock.send(self.message) == self.size
        return False

    def receive(self) -> str:
        """Return "partial", "complete", "error" or "wrong"."""
        try:
            data = self.sock.recv(self.size - self.received)
        except OSError:
            data = b""
        if not data:
            return "error"
        end = self.received + len(data)
        if data != self.message[self.received : end]:
            return "wrong"
        self.received = end
        return "complete" if end == self.size else "partial"


def main() -> None:
    host, port, connections, size, seconds, pid = sys.argv[1:]
    server_clock = ~int(pid) << 3 | 2  # clock_getcpuclockid(3): the CPU time of that process
    poller = select.epoll()
    clients: dict[int, Client] = {}
    for number in range(int(connections)):
        client = Client((host, int(port)), number, int(size))
        clients[client.sock.fileno()] = client
        poller.register(client.sock, select.EPOLLIN)
    counts = {"error": 0, "wrong": 0}
    latencies: list[int] = []
    end = monotonic_ns() + int(float(seconds) * 1e9)
    deadline = end + 10_000_000_000
    in_flight = set(clients)
    before, used = clock_gettime_ns(server_clock), 0
    for fd, client in clients.items():
        if not client.send():
            counts["error"] += 1
            in_flight.discard(fd)
    while in_flight and monotonic_ns() < deadline:
        if not used and monotonic_ns() >= end:
            used = clock_gettime_ns(server_clock) - before
        for fd, _ in poller.poll(0.1):
            client = clients[fd]
            state = client.receive()
            if state == "complete" and (now := monotonic_ns()) < end:
                latencies.append(now - client.sent_at)
                client.sequence += 1
                state = "partial" if client.send() else "error"
            if state != "partial":
                in_flight.discard(fd)
            if state in counts:
                counts[state] += 1
                poller.unregister(fd)
    latencies.sort()
    median, p99 = (latencies[(len(latencies) - 1) * percent // 100] if latencies else 0 for percent in (50, 99))
    print(json.dumps({
        "requests": len(latencies), "seconds": float(seconds), "errors": counts["error"] + len(in_flight),
        "wrong": counts["wrong"], "median_ns": median, "p99_ns": p99,
        "server_cpu_ns": used or clock_gettime_ns(server_clock) - before,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
