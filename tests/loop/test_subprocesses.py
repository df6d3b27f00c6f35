"""Subprocesses. The standard loop is the oracle."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading

import pytest

import fastmux

from .connections import until

TIMEOUT = 20
ON_CORE = fastmux.implementation == "c" and "epoll" in fastmux.Poller.mechanisms
needs_core = pytest.mark.skipif(
    not ON_CORE or not hasattr(os, "pidfd_open"), reason="the standard library's own transports"
)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX")

PIPE = asyncio.subprocess.PIPE
#: Copies its input to both outputs.
TEE = """
import os
while data := os.read(0, 65536):
    for fd in 1, 2:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest):]
"""


async def python(program, **options):
    return await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", program, **options)


class Recorder(asyncio.SubprocessProtocol):
    """Records its callbacks, and the data by descriptor."""

    def __init__(self):
        self.events = []
        self.data = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        if self.events[-1] != f"data {fd}":
            self.events.append(f"data {fd}")

    def pipe_connection_lost(self, fd, exc):
        self.events.append(f"lost {fd}")

    def process_exited(self):
        self.events.append("exited")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)
        self.transport.close()


async def start(program, **options):
    loop = asyncio.get_running_loop()
    _, protocol = await loop.subprocess_exec(Recorder, sys.executable, "-S", "-c", program, **options)
    return protocol


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_communicate_passes_data_through(run, size):
    async def main():
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        data = os.urandom(size)
        out, err = await process.communicate(data)
        return out == data, err == data, process.returncode

    assert run(main()) == (True, True, 0)


def test_request_and_reply(run):
    async def main():
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL)
        replies = []
        for number in range(100):
            process.stdin.write(b"%d\n" % number)
            await process.stdin.drain()
            replies.append(await process.stdout.readline())
        process.stdin.close()
        await process.stdin.wait_closed()
        return replies == [b"%d\n" % number for number in range(100)], await process.wait()

    assert run(main()) == (True, 0)


def test_the_error_output_may_go_to_the_output(run):
    async def main():
        process = await python(
            "import os; os.write(2, b'a'); os.write(1, b'b')", stdout=PIPE, stderr=asyncio.subprocess.STDOUT
        )
        return await process.communicate()

    assert run(main()) == (b"ab", None)


def test_shell(run):
    async def main():
        process = await asyncio.create_subprocess_shell("printf x; exit 7", stdout=PIPE)
        return (await process.communicate())[0], process.returncode

    assert run(main()) == (b"x", 7)


@pytest.mark.parametrize("status", [0, 1, 255])
def test_exit_status(run, status):
    async def main():
        process = await python(f"import os; os._exit({status})")
        return await process.wait(), await process.wait(), process.returncode

    assert run(main()) == (status, status, status)


def is_gone(process):
    try:
        process.kill()
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGUSR1], ids=str)
def test_a_signal_is_a_negative_status(run, number):
    async def main():
        process = await python("import sys; print(flush=True); sys.stdin.read()", stdin=PIPE, stdout=PIPE)
        await process.stdout.readline()
        process.send_signal(number)
        status = await process.wait()
        await until(lambda: is_gone(process))  # newer Pythons ignore signals to a process that has pipes left
        process.stdin.close()
        return status

    assert run(main()) == -number


def test_many_at_once(run):
    async def one(number):
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        data = b"%d " % number * 20_000
        return await process.communicate(data) == (data, data)

    async def main():
        return await asyncio.gather(*map(one, range(20)))

    assert run(main()) == [True] * 20


@pytest.mark.parametrize("first", ["exit", "end of output"])
def test_callbacks_come_in_order(run, first):
    """Whatever the order of the exit and the end of output: data before the end, and connection_lost() last."""
    programs = {
        "exit": "import os; os.write(1, b'data'); os.fork() or (os.read(0, 1), os._exit(0))",
        "end of output": "import os; os.write(1, b'data'); os.close(1); os.close(2); os.read(0, 1)",
    }

    awaited = {"exited"} if first == "exit" else {"lost 1", "lost 2"}

    async def main():
        protocol = await start(programs[first], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await until(lambda: set(protocol.events) >= awaited)
        early = [*protocol.events]
        protocol.transport.get_pipe_transport(0).close()
        exc = await protocol.lost
        return early, protocol.events, protocol.data, exc, protocol.transport.get_returncode()

    early, events, data, exc, status = run(main())

    assert (data, exc, status) == ({1: b"data", 2: b""}, None, 0)
    assert events[:2] == ["made", "data 1"]
    assert events[-1] == "lost"
    assert sorted(events) == sorted(["made", "data 1", "lost 0", "lost 1", "lost 2", "exited", "lost"])
    assert ("lost 1" in early) == (first != "exit")


async def write_for_ever(stream):
    while True:
        stream.write(bytes(100_000))
        await stream.drain()


def test_a_process_that_closes_its_input_breaks_the_pipe(run):
    async def main():
        process = await python(
            "import os, signal; os.close(0); os.write(1, b'x'); signal.pause()", stdin=PIPE, stdout=PIPE
        )
        await process.stdout.read(1)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await write_for_ever(process.stdin)
        process.kill()
        return await process.wait()

    assert run(main()) == -signal.SIGKILL


def test_communicate_ignores_a_process_that_reads_nothing(run):
    async def main():
        process = await python("", stdin=PIPE, stdout=PIPE)
        return await process.communicate(bytes(1_000_000)), process.returncode

    assert run(main()) == ((b"", None), 0)


def test_closing_the_transport_kills_the_process(run):
    async def main():
        protocol = await start("import sys; sys.stdin.read()", stdin=PIPE, stdout=PIPE, stderr=None)
        held = os.dup(protocol.transport.get_pipe_transport(0).get_extra_info("pipe").fileno())
        protocol.transport.close()
        await protocol.lost
        os.close(held)
        return protocol.transport.get_returncode()

    assert run(main()) == -signal.SIGKILL


def test_cancelling_the_start_kills_the_process(run):
    async def main():
        task = asyncio.ensure_future(python("import sys; sys.stdin.read()", stdin=PIPE, stdout=PIPE, stderr=PIPE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    run(main())


@pytest.mark.parametrize("options", [{"cwd": "/no/such/directory"}, {}], ids=["directory", "program"])
def test_a_program_that_does_not_start_leaves_nothing(run, options):
    async def main():
        program = sys.executable if options else "/no/such/program"
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, **options)

    run(main())


def test_a_status_that_was_read_elsewhere_is_unknown(run):
    async def main():
        process = await python("import sys; sys.stdin.read()", stdin=PIPE)
        if sys.version_info < (3, 12) and not (ON_CORE and isinstance(asyncio.get_running_loop(), fastmux.EventLoop)):
            process.kill()
            return await process.wait() and 255  # a thread may read it first
        process.kill()
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert run(main()) == 255


def test_a_loop_in_another_thread_starts_processes(loop):
    """Signals arrive in the main thread only; the exit of a process needs none."""
    results = []

    async def main():
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        results.append(await process.communicate(b"x"))

    def target():
        other = type(loop)()
        other.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
        other.close()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

    assert results == [(b"x", b"x")]


def test_ignored_child_signals_do_not_matter(run):
    """If SIGCHLD is ignored, the kernel keeps no status."""

    async def main():
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        return await process.communicate(b"x"), process.returncode

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(main()) == ((b"x", b"x"), 255)
    finally:
        signal.signal(signal.SIGCHLD, before)


# What is not as in the standard library, or cannot be


@needs_core
@pytest.mark.parametrize("error", [OSError, ProcessLookupError, PermissionError])
def test_without_a_pidfd_a_thread_waits(monkeypatch, error):
    def fail(*args):
        raise error

    async def main():
        process = await python(TEE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        return await process.communicate(b"x"), process.returncode

    monkeypatch.setattr(os, "pidfd_open", fail)

    assert fastmux.run(main()) == ((b"x", b"x"), 0)


@needs_core
def test_no_thread_waits():
    async def main():
        before = threading.active_count()
        process = await python("import sys; sys.stdin.read()", stdin=PIPE)
        count = threading.active_count() - before
        process.stdin.close()
        await process.wait()
        return count

    assert fastmux.run(main()) == 0


@needs_core
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_closes_before_the_process_exits_leaves_no_descriptor():
    async def main():
        return await start("import sys; sys.stdin.read()", stdin=PIPE, stdout=None, stderr=None)

    loop = fastmux.new_event_loop()
    process = loop.run_until_complete(main()).transport.get_extra_info("subprocess")
    loop.close()
    process.kill()
    process.wait()
    del loop
    gc.collect()


@needs_core
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_child_watcher_of_a_program_is_used(monkeypatch):
    class Watcher(asyncio.ThreadedChildWatcher):
        pids = []

        def add_child_handler(self, pid, callback, *args):
            self.pids.append(pid)
            super().add_child_handler(pid, callback, *args)

    async def main():
        process = await python("", stdin=PIPE, stdout=PIPE)
        await process.communicate()
        return [process.pid]

    policy = asyncio.get_event_loop_policy()
    monkeypatch.setattr(policy, "_watcher", Watcher())

    assert fastmux.run(main()) == Watcher.pids


@needs_core
@pytest.mark.parametrize("owner", ["class", "object"])
def test_a_loop_with_another_connect_read_pipe_uses_it(owner):
    calls = []

    class Loop(fastmux.EventLoop):
        pass

    async def connect_read_pipe(factory, pipe):
        calls.append(pipe)
        return await fastmux.EventLoop.connect_read_pipe(loop, factory, pipe)

    loop = Loop()
    if owner == "class":
        Loop.connect_read_pipe = staticmethod(connect_read_pipe)
    else:
        loop.connect_read_pipe = connect_read_pipe

    async def main():
        process = await python("", stdout=PIPE)
        await process.communicate()

    loop.run_until_complete(main())
    loop.close()

    assert len(calls) == 1


@needs_core
def test_debug_mode_uses_the_standard_transport():
    async def main():
        protocol = await start("", stdin=None, stdout=None, stderr=None)
        await protocol.lost
        return type(protocol.transport).__module__

    assert [fastmux.run(main(), debug=debug) for debug in (False, True)] == [
        "fastmux.loop.transports.process",
        "asyncio.unix_events",
    ]
