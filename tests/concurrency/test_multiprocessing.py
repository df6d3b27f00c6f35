"""Programs of several processes, under each start method of multiprocessing."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

TIMEOUT = 20.0

#: The first part of each program. Children that are not forked run it again.
BEGINNING = """
import asyncio, multiprocessing, multiprocessing.connection, os, queue, selectors, socket, sys
import fastmux
from fastmux import READ, WRITE

def start(function, *args):
    child = context.Process(target=function, args=args)
    child.start()
    return child

def finish(child):
    child.join(20)
    assert child.exitcode == 0, child.exitcode

def answer_by_poller(connection):
    with fastmux.Poller() as poller:
        key = poller.register(connection)
        while True:
            assert poller.select(20) == [(key, READ)]
            message = connection.recv()
            if message is None:
                return
            connection.send((os.getpid(), message))

def answer_by_loop(sock):
    async def main():
        reader, writer = await asyncio.open_connection(sock=sock)
        while (data := await reader.read(100)) != b"end":  # forked siblings may hold the other end open
            await asyncio.sleep(0.001)
            writer.write(data.upper())
        writer.close()

    fastmux.run(main())

def answer_by_selectors(connection):
    with fastmux.patch():
        assert selectors.DefaultSelector is fastmux.selectors.DefaultSelector
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while selector.select(20) and (message := connection.recv()) is not None:
                connection.send((os.getpid(), message))

def produce(numbers, count):
    for number in range(count):
        numbers.put((os.getpid(), number))

def double(number):
    return 2 * number

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
"""

PROGRAMS = {
    "pollers in children and in the parent": """
    # The parent has a poller before it starts the children, and keeps using it.
    with fastmux.Poller() as poller:
        own, other = socket.socketpair()
        own_key = poller.register(own, WRITE)
        assert poller.select(0.01) == [(own_key, WRITE)]
        pipes = [context.Pipe() for _ in range(3)]
        functions = (answer_by_poller, answer_by_selectors, answer_by_poller)
        children = [start(function, theirs) for function, (_, theirs) in zip(functions, pipes)]
        for round in range(5):
            keys = {poller.register(ours, READ): child for (ours, _), child in zip(pipes, children)}
            for ours, _ in pipes:
                ours.send(round)
            while keys:
                for key, events in poller.select(20):
                    if key is not own_key:
                        assert key.fileobj.recv() == (keys.pop(key).pid, round)
                        poller.unregister(key.fileobj)
        for ours, _ in pipes:
            ours.send(None)
        for child in children:
            finish(child)
        assert poller.select(0.01) == [(own_key, WRITE)]
        poller.wakeup()
        poller.modify(own, READ)
        assert poller.poll(20) == []
        for end in (own, other):
            end.close()
""",
    "event loops in children and in the parent": """
    async def main():
        pairs = [socket.socketpair() for _ in range(3)]
        children = [start(answer_by_loop, theirs) for _, theirs in pairs]
        for ours, theirs in pairs:
            theirs.close()
            reader, writer = await asyncio.open_connection(sock=ours)
            for text in (b"one", b"two"):
                writer.write(text)
                assert await asyncio.wait_for(reader.readexactly(3), 20) == text.upper()
            writer.write(b"end")
            await writer.drain()
            writer.close()
        loop = asyncio.get_running_loop()
        for child in children:
            await loop.run_in_executor(None, finish, child)

    fastmux.run(main())
""",
    "queues, pools and pipes on the patched modules": """
    with fastmux.patch():
        assert multiprocessing.connection._WaitSelector is fastmux.selectors.PollSelector
        numbers = context.Queue()
        children = [start(produce, numbers, 50) for _ in range(3)]
        found = [numbers.get(timeout=20) for _ in range(150)]
        for child in children:
            finish(child)
            assert [number for pid, number in found if pid == child.pid] == list(range(50))
        try:
            numbers.get(timeout=0.01)
        except queue.Empty:
            pass
        numbers.close()
        numbers.join_thread()

        pipes = [context.Pipe() for _ in range(3)]
        children = [start(answer_by_selectors, theirs) for _, theirs in pipes]
        waiting = {ours: child for (ours, _), child in zip(pipes, children)}
        assert multiprocessing.connection.wait(waiting, 0) == []
        for ours in waiting:
            ours.send("message")
        while waiting:
            for ours in multiprocessing.connection.wait(waiting, 20):
                assert ours.recv() == (waiting.pop(ours).pid, "message")
        for ours, _ in pipes:
            ours.send(None)
        assert set(multiprocessing.connection.wait([child.sentinel for child in children], 20))
        for child in children:
            finish(child)

        with context.Pool(2) as pool:
            assert pool.map(double, range(100)) == list(range(0, 200, 2))
            assert pool.apply_async(double, (21,)).get(20) == 42
            pool.close()
            pool.join()
""",
}


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_several_processes_work(tmp_path, program, method):
    script = tmp_path / "program.py"
    script.write_text(BEGINNING + PROGRAMS[program] + '    print("done")\n')

    finished = subprocess.run(
        [sys.executable, str(script), method], capture_output=True, text=True, timeout=3 * TIMEOUT, check=False
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "done\n", "")
