"""Protocols that record their callbacks, and socket pairs that connect them. The state of a loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import signal
import socket
import time


class Recorder(asyncio.Protocol):
    """Records its callbacks and data, and calls on_data for each piece of data."""

    def __init__(self, on_data=None):
        self.on_data = on_data
        self.data = b""
        self.events = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        assert data
        self.data += data
        self.events.append("data")
        if self.on_data is not None:
            self.on_data(self)

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class BufferedRecorder(asyncio.BufferedProtocol):
    """A Recorder with a buffer of a given size."""

    def __init__(self, size=100, make=bytearray, on_data=None):
        self.buffer = make(size)
        self.on_data = on_data
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        assert 0 < nbytes <= memoryview(self.buffer).nbytes
        self.data += bytes(memoryview(self.buffer).cast("B")[:nbytes])
        if self.on_data is not None:
            self.on_data(self)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def connect(factory=Recorder):
    """Return the protocol of a new connection, and its peer socket."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, protocol = await asyncio.get_running_loop().create_connection(factory, sock=ours)
    return protocol, theirs


async def batch(count, on_data=None, factory=Recorder):
    """Return so many protocols and their peer sockets. on_data gets the protocol and the list of all others."""
    connections = []

    def call(protocol):
        on_data(protocol, [other for other, _ in connections if other is not protocol])

    for _ in range(count):
        connections.append(await connect(lambda: factory(on_data=on_data and call)))
    return [protocol for protocol, _ in connections], [theirs for _, theirs in connections]


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def close(protocols, sockets):
    for protocol in protocols:
        protocol.transport.abort()
    for sock in sockets:
        sock.close()
    for protocol in protocols:
        await protocol.lost


_lines, _first = inspect.getsourcelines(asyncio.BaseEventLoop.run_forever)
#: Lines of run_forever() that run a turn. Read here: a signal handler that is interrupted while it reads a file leaves
#: the file open.
TURN_LINES = {number for number, line in enumerate(_lines, _first) if "_run_once" in line}


def in_a_turn(frame):
    """Whether a frame runs inside of a turn of run_forever(), not in its set-up or clean-up."""
    while frame is not None and frame.f_code is not asyncio.BaseEventLoop.run_forever.__code__:
        frame = frame.f_back
    return frame is not None and frame.f_lineno in TURN_LINES


def run_under_interruptions(loop, unfinished, often):
    """Run a loop whose turns are interrupted by exceptions of a signal handler. Set the event after some of them."""
    interruptions, armed = 0, False

    def interrupt(signum, frame):
        nonlocal interruptions, armed
        if not in_a_turn(frame):
            return
        if not armed:  # has interrupted this run: a second exception would skip the clean-up of run_forever()
            loop.stop()
            return
        armed = False
        interruptions += 1
        if interruptions > 3:
            often.set()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    deadline = time.monotonic() + 50
    gc.disable()  # no exception comes out of its callbacks
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    try:
        while unfinished() and time.monotonic() < deadline:
            armed = True
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        gc.enable()
