"""Time asyncio calls that need no server, in CPU time of the whole process.

    python -m benchmarks.calls.asyncio LOOP CALL COUNT

Prints the nanoseconds per call.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import child_process
from benchmarks.servers import asyncio_server
from benchmarks.servers.asyncio_server import make_loop


async def sleep(count: int) -> None:
    """Start all sleeps at once; sleeping takes no CPU time."""
    await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(count)))


def nothing() -> None:
    pass


async def call_soon_batches(count: int) -> None:
    """Schedule 1,000 callbacks per loop iteration."""
    loop = asyncio.get_running_loop()
    for _ in range(count // 1000):
        for _ in range(1000):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def call_later_cancel(count: int) -> None:
    """Schedule and cancel 1,000 timers per loop iteration."""
    loop = asyncio.get_running_loop()
    for _ in range(count // 1000):
        for _ in range(1000):
            loop.call_later(10, nothing).cancel()
        await asyncio.sleep(0)


async def call_soon_threadsafe(count: int) -> None:
    """Schedule callbacks from another thread."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def schedule() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()


async def task(count: int) -> None:
    async def coroutine() -> None:
        pass

    for _ in range(count):
        await asyncio.create_task(coroutine())


async def future(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await waiter


async def timeout(count: int) -> None:
    timeout: Any = vars(asyncio)["timeout"]  # Python 3.11
    for _ in range(count):
        async with timeout(10):
            pass


async def call_soon_chain(count: int) -> None:
    """Schedule each callback from the one before: one loop iteration each."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def callback(left: int) -> None:
        if left:
            loop.call_soon(callback, left - 1)
        else:
            done.set_result(None)

    callback(count)
    await done


async def queue_ping_pong(count: int) -> None:
    """Pass items back and forth between two tasks through two queues."""
    requests: asyncio.Queue[int] = asyncio.Queue()
    replies: asyncio.Queue[int] = asyncio.Queue()

    async def reply() -> None:
        for _ in range(count):
            await replies.put(await requests.get())

    replying = asyncio.ensure_future(reply())
    for number in range(count):
        await requests.put(number)
        await replies.get()
    await replying


class Receiver(asyncio.DatagramProtocol):
    """Set a future after a number of datagrams."""

    def __init__(self) -> None:
        self.left = 0
        self.done: Any = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


async def datagrams(count: int) -> None:
    """Receive datagrams in bursts of 100, which a receive buffer of the usual size holds."""
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.connect(transport.get_extra_info("sockname"))
        for _ in range(count // 100):
            receiver.left, receiver.done = 100, loop.create_future()
            for _ in range(100):
                sender.send(b"x" * 64)
            await receiver.done
    transport.close()


async def pipe(count: int) -> None:
    """Pass 1 KiB through one subprocess, and read it back."""
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(count):
        process.stdin.write(bytes(1024))
        await process.stdout.readexactly(1024)
    process.stdin.close()
    await process.wait()


async def communicate(count: int) -> None:
    """Start a subprocess for each byte. A full path: a search in PATH depends on its length."""
    program = shutil.which("cat") or "cat"
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        await process.communicate(b"x")


class Request(asyncio.Protocol):
    """Send a request; the future ends when the connection is closed after the response."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:  # uvloop's is no subclass of asyncio.Transport
        self.transport = transport
        transport.write(b"x" * 64)

    def data_received(self, data: bytes) -> None:
        self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.closed.set_result(None)


async def connect(count: int) -> None:
    """Connect, request, response, close."""
    await request_from("protocol", count)


async def connect_unix(count: int) -> None:
    await request_from("unix", count)


async def request_from(workload: str, count: int) -> None:
    """Make requests, each on a new connection, of a server in another process."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/socket"
        command = [sys.executable, asyncio_server.__file__, "asyncio", workload, path]
        with child_process.child(command, None) as server:
            assert server.stdout is not None
            host, _, port = server.stdout.readline().rpartition(" ")[2].strip().partition(":")
            for _ in range(count):
                if workload == "unix":
                    _, protocol = await loop.create_unix_connection(Request, path)
                else:
                    _, protocol = await loop.create_connection(Request, host, int(port))
                await protocol.closed


CALLS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "sleep": sleep,
    "call_soon-batches": call_soon_batches,
    "call_soon-chain": call_soon_chain,
    "call_later-cancel": call_later_cancel,
    "call_soon_threadsafe": call_soon_threadsafe,
    "task": task,
    "future": future,
    "timeout": timeout,
    "queue-ping-pong": queue_ping_pong,
    "datagrams": datagrams,
    "pipe": pipe,
    "communicate": communicate,
    "connect": connect,
    "connect-unix": connect_unix,
}


def main() -> None:
    loop, call, count = make_loop(sys.argv[1]), CALLS[sys.argv[2]], int(sys.argv[3])
    loop.run_until_complete(call(count // 10))  # warm-up
    start = time.process_time_ns()
    loop.run_until_complete(call(count))
    print((time.process_time_ns() - start) / count)
    loop.close()


if __name__ == "__main__":
    main()
