"""The turn of the event loop: order, contexts and exceptions of callbacks; time, threads and signals; run().

The tests run on the standard loop, too.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import gc
import heapq
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import fastmux

TIMEOUT = 20


def run(loop, main):
    return loop.run_until_complete(asyncio.wait_for(main, TIMEOUT))


def turns(loop, count=1):
    """Run so many turns."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


# Order


def test_queued_callbacks_run_first_then_ready_files_then_timers(loop, socketpair):
    ours, theirs = socketpair
    order = []
    loop.add_reader(ours, lambda: (order.append("reader"), loop.remove_reader(ours)))
    theirs.send(b"x")
    loop.call_later(0, order.append, "timer")
    loop.call_soon(order.append, "queued")
    loop.call_soon(lambda: loop.call_soon(order.append, "queued meanwhile"))
    turns(loop, 2)

    assert order == ["queued", "reader", "timer", "queued meanwhile"]


def test_reader_comes_before_writer_of_the_same_socket(loop, socketpair):
    ours, theirs = socketpair
    order = []
    loop.add_writer(ours, order.append, "writer")
    loop.add_reader(ours, order.append, "reader")
    theirs.send(b"x")
    turns(loop)
    loop.remove_reader(ours)
    loop.remove_writer(ours)

    assert order == ["reader", "writer"]


def test_stop_ends_with_the_turn_not_before(loop, socketpair):
    ours, theirs = socketpair
    order = []
    theirs.send(b"x")
    loop.add_reader(ours, order.append, "reader")
    loop.call_later(0, order.append, "timer")
    loop.call_soon(loop.stop)
    loop.call_soon(order.append, "behind stop")
    loop.run_forever()
    loop.remove_reader(ours)

    assert order == ["behind stop", "reader", "timer"]


def test_a_chain_of_callbacks_starves_no_reader(loop, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    count = 0

    def again():
        nonlocal count
        count += 1
        loop.call_soon(again)

    loop.call_soon(again)
    loop.add_reader(ours, loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)

    assert count <= 2


def test_cancelled_handles_do_not_run(loop, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    ran = []
    loop.call_soon(lambda: (handle.cancel(), timer.cancel(), loop.remove_reader(ours)))
    handle = loop.call_soon(ran.append, "handle")
    timer = loop.call_later(0, ran.append, "timer")
    loop.add_reader(ours, ran.append, "reader")
    turns(loop, 3)

    assert ran == []


def test_many_cancelled_timers_are_forgotten(loop):
    timers = [loop.call_later(3600, print) for _ in range(1000)]
    for timer in timers[1:]:
        timer.cancel()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()

    assert len(loop._scheduled) < 10
    timers[0].cancel()


# Contexts and exceptions


def test_callbacks_run_in_the_context_that_they_were_given(loop, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    variable = contextvars.ContextVar("variable", default="none")
    seen = []
    variable.set("set before")
    loop.call_soon(lambda: seen.append(("soon", variable.get())))
    loop.add_reader(ours, lambda: seen.append(("reader", variable.get())))
    loop.call_later(0, lambda: seen.append(("timer", variable.get())))
    variable.set("set after")
    loop.call_soon(lambda: (variable.set("inside"), seen.append(("own", variable.get()))))
    empty = contextvars.Context()
    loop.call_soon(lambda: seen.append(("empty", variable.get())), context=empty)
    turns(loop)
    loop.remove_reader(ours)

    assert variable.get() == "set after"
    assert seen == [
        ("soon", "set before"),
        ("own", "inside"),
        ("empty", "none"),
        ("reader", "set before"),
        ("timer", "set before"),
    ]


def test_an_exception_in_a_callback_goes_to_the_handler_and_the_others_run(loop, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    ran = []
    for schedule in (loop.call_soon, lambda function: loop.call_later(0, function)):
        schedule(lambda: 1 / 0)
        schedule(lambda: ran.append("next"))
    loop.add_reader(ours, lambda: (loop.remove_reader(ours), 1 / 0))
    turns(loop)

    assert ran == ["next", "next"]
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError] * 3
    assert all(context["message"].startswith("Exception in callback ") for context in contexts)
    assert all(isinstance(context["handle"], asyncio.Handle) for context in contexts)


def test_without_a_handler_an_exception_is_logged(loop, caplog):
    loop.call_soon(lambda: 1 / 0)
    turns(loop)

    assert [record.levelno for record in caplog.records if record.name == "asyncio"] == [logging.ERROR]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_leaves_the_loop_and_the_rest_runs_next_time(loop, socketpair, error):
    ours, theirs = socketpair
    theirs.send(b"x")
    ran = []

    def leave():
        raise error

    loop.call_soon(leave)
    loop.call_soon(ran.append, "queued")
    loop.add_reader(ours, lambda: (ran.append("reader"), loop.remove_reader(ours)))
    loop.call_later(0, ran.append, "timer")
    with pytest.raises(error):
        loop.run_forever()
    assert ran == []
    turns(loop, 2)

    assert sorted(ran) == ["queued", "reader", "timer"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_from_a_reader_leaves_the_timers_for_next_time(loop, socketpair, error):
    ours, theirs = socketpair
    theirs.send(b"x")
    ran = []

    def leave():
        loop.remove_reader(ours)
        raise error

    loop.add_reader(ours, leave)
    loop.call_later(0, ran.append, "timer")
    with pytest.raises(error):
        loop.run_forever()
    turns(loop)

    assert ran == ["timer"]


def test_debug_mode_can_be_turned_on_and_off(loop, caplog):
    async def main():
        for debug in (True, False, True):
            loop.set_debug(debug)
            loop.slow_callback_duration = 0.01
            await asyncio.sleep(0)
            time.sleep(0.02)
            await asyncio.sleep(0.001)

    with caplog.at_level(logging.WARNING):
        run(loop, main())

    assert "Executing" in caplog.text
    assert "took" in caplog.text


def test_debug_mode_checks_the_thread_and_the_callback(loop):
    loop.set_debug(True)

    async def coroutine():
        pass

    async def main():
        with pytest.raises(TypeError):
            loop.call_soon(coroutine)
        with pytest.raises(RuntimeError):
            await loop.run_in_executor(None, loop.call_soon, print)
        await loop.shutdown_default_executor()

    run(loop, main())


def test_a_closed_loop_takes_no_callbacks(loop):
    loop.close()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError):
            schedule(print)


# Time


@pytest.mark.parametrize("delay", [0.00005, 0.0002, 0.001, 0.005])
def test_timers_are_never_early(loop, delay):
    async def main():
        early = []
        for _ in range(20):
            due = time.monotonic() + delay
            await asyncio.sleep(delay)
            early.append(time.monotonic() < due)
        return early

    assert not any(run(loop, main()))


def test_timers_run_in_the_order_of_their_times(loop):
    order = []
    now = loop.time()
    for number in (3, 1, 2):
        loop.call_at(now + number / 1000, order.append, number)
    loop.call_at(now + 0.01, loop.stop)
    loop.run_forever()

    assert order == [1, 2, 3]


# Threads and signals


def test_another_thread_wakes_the_loop(loop):
    async def main():
        future = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, "woken"))
        loop.call_later(0.01, thread.start)  # the loop waits by then
        result = await future
        thread.join()
        return result

    assert run(loop, main()) == "woken"


def test_no_wake_up_is_lost(loop):
    """Enough threads to hit the moment between the check of the queue and the wait."""
    rounds, threads = 300, 4

    async def main():
        calls = []
        done = asyncio.Event()

        def called(number):
            calls.append(number)
            if len(calls) == rounds * threads:
                done.set()

        def work():
            for number in range(rounds):
                loop.call_soon_threadsafe(called, number)
                if number % 10 == 0:
                    time.sleep(0)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        await done.wait()
        for worker in workers:
            worker.join()
        return len(calls)

    assert run(loop, main()) == rounds * threads


def test_a_signal_runs_its_handler_while_the_loop_waits(loop):
    async def main():
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
        await called.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())


def test_a_plain_signal_handler_can_wake_the_loop(loop):
    async def main():
        future = loop.create_future()
        previous = signal.signal(signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(future.set_result, None))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            await future
        finally:
            signal.signal(signal.SIGALRM, previous)

    run(loop, main())


def test_keyboard_interrupt_ends_a_wait(loop):
    def interrupt():
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()


# Creation, run() and close()


def test_a_loop_can_be_made_in_one_thread_and_run_in_another(loop):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(loop, asyncio.sleep(0.001, "slept"))))
    thread.start()
    thread.join(TIMEOUT)

    assert results == ["slept"]


@pytest.mark.parametrize(
    "selector",
    dict.fromkeys(  # without the extension they are the same three
        getattr(module, name)
        for module in (selectors, fastmux.selectors)
        for name in ("SelectSelector", "PollSelector", "EpollSelector")
    ),
    ids=lambda selector: f"{selector.__module__}.{selector.__name__}",
)
def test_the_loop_runs_on_any_selector(selector):
    async def echo(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    async def main():
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set_result, None))
        loop.call_later(0.01, thread.start)
        await woken
        thread.join()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"echo")
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return received

    loop = fastmux.EventLoop(selector())
    try:
        assert run(loop, main()) == b"echo"
    finally:
        loop.close()


def test_a_closed_loop_is_garbage(loop):
    other = type(loop)()
    other.run_until_complete(asyncio.sleep(0))
    other.close()
    alive = weakref.ref(other)
    del other
    for _ in range(3):  # PyPy collects step by step
        gc.collect()

    assert alive() is None


def test_a_signal_handler_runs_while_callbacks_without_bytecode_keep_the_loop_busy(loop):
    again = functools.partial(loop.call_soon)
    again.__setstate__((loop.call_soon, (again,), {}, {}))  # queues itself
    previous = signal.signal(signal.SIGALRM, lambda *_: loop.stop())
    try:
        loop.call_soon(again)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loop.run_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        again.__setstate__((print, (), {}, {}))


def test_a_weak_reference_to_a_handle_ends_with_it(loop):
    ended = []
    handle = loop.call_soon(bool)
    reference = weakref.ref(handle, ended.append)
    del handle
    turns(loop)
    gc.collect()

    assert (reference(), ended) == (None, [reference])


class Owner:
    """Keeps a handle whose callback and context keep the owner."""

    def __init__(self, schedule, *args):
        context = contextvars.copy_context()
        context.run(contextvars.ContextVar("owner").set, self)
        self.ran = False
        self.handle = schedule(*args, self.run, context=context)

    def run(self):
        self.ran = True


async def run_soon(loop):
    owner = Owner(loop.call_soon)
    await asyncio.sleep(0)
    assert owner.ran
    return owner


async def run_later(loop):
    owner = Owner(loop.call_later, 0)
    while not owner.ran:
        await asyncio.sleep(0)
    return owner


async def run_from_a_thread(loop):
    owners = []
    thread = threading.Thread(target=lambda: owners.append(Owner(loop.call_soon_threadsafe)))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    assert owners[0].ran
    return owners[0]


async def cancel_first_timer(loop):
    owner = Owner(loop.call_later, 3600)
    owner.handle.cancel()
    await asyncio.sleep(0)
    return owner


async def cancel_many_timers(loop):
    first = loop.call_later(3600, print)
    owners = [Owner(loop.call_later, 3601) for _ in range(101)]
    for owner in owners:
        owner.handle.cancel()
    await asyncio.sleep(0)
    first.cancel()
    return owners[50]


async def take_from_queue(loop):
    owner = Owner(loop.call_soon)
    while loop._ready.popleft() is not owner.handle:
        pass
    return owner


async def clear_queue(loop):
    owner = Owner(loop.call_soon)
    loop._ready.clear()
    return owner


async def replace_queue(loop):
    owner = Owner(loop.call_soon)
    loop._ready = collections.deque()
    await asyncio.sleep(0)
    return owner


async def keep_replaced_queue(loop):
    owner = Owner(loop.call_soon)
    owner.queue = loop._ready
    loop._ready = collections.deque()
    await asyncio.sleep(0)  # this turn is the old queue's
    return owner


async def take_from_heap(loop):
    owner = Owner(loop.call_later, 0)
    heapq.heappop(loop._scheduled)
    return owner


async def take_from_kept_heap(loop):
    heap = loop._scheduled
    owner = Owner(loop.call_later, 0)
    heapq.heappop(heap)
    return owner


async def clear_heap(loop):
    owner = Owner(loop.call_later, 0)
    loop._scheduled.clear()
    return owner


async def replace_heap(loop):
    owner = Owner(loop.call_later, 0)
    loop._scheduled = []
    return owner


async def take_in_debug_mode(loop):
    owner = Owner(loop.call_later, 0)
    loop.set_debug(True)  # so that the next turns are the standard loop's
    while not owner.ran:
        await asyncio.sleep(0)
    return owner


@pytest.mark.parametrize(
    "scenario",
    [
        run_soon,
        run_later,
        run_from_a_thread,
        cancel_first_timer,
        cancel_many_timers,
        take_from_queue,
        clear_queue,
        replace_queue,
        keep_replaced_queue,
        take_from_heap,
        take_from_kept_heap,
        clear_heap,
        replace_heap,
        take_in_debug_mode,
    ],
)
def test_a_cycle_through_a_handle_that_has_left_a_running_loop_is_garbage(loop, scenario):
    async def main():
        alive = weakref.ref(await scenario(loop))
        for _ in range(3):
            gc.collect()
        return alive()

    assert loop.run_until_complete(main()) is None


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_dropped_loop_with_waiting_callbacks_is_garbage(loop, method):
    def schedule(other):
        owners.append(Owner(getattr(other, method), *([3600] if method == "call_later" else [])))
        other.stop()

    owners = []
    other = type(loop)()
    other.call_soon(schedule, other)
    other.run_forever()
    alive = weakref.ref(owners.pop())
    assert not alive().ran
    with pytest.warns(ResourceWarning) if sys.implementation.name == "cpython" else contextlib.nullcontext():
        del other
        for _ in range(3):
            gc.collect()

    assert alive() is None


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
@pytest.mark.parametrize("late", [False, True], ids=["", "after close"])
def test_a_closed_loop_that_made_futures_and_tasks_is_freed_without_the_garbage_collector(loop, late):
    async def main():
        asyncio.get_running_loop().create_future()
        await asyncio.create_task(asyncio.sleep(0))

    other = type(loop)()
    other.run_until_complete(main())
    other.close()
    if late:
        other.create_future()
    alive = weakref.ref(other)
    gc.collect()
    gc.disable()
    try:
        del other
        assert alive() is None
    finally:
        gc.enable()


def test_run_returns_what_main_returns_and_leaves_no_loop():
    async def main():
        return type(asyncio.get_running_loop()), asyncio.get_running_loop().get_debug()

    assert fastmux.run(main()) == (fastmux.EventLoop, False)
    assert fastmux.run(main(), debug=True) == (fastmux.EventLoop, True)


def test_run_refuses_what_asyncio_run_refuses():
    async def main():
        inner = asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            fastmux.run(inner)
        inner.close()

    fastmux.run(main())
    with pytest.raises((ValueError, TypeError)):
        fastmux.run(print)


def test_run_cancels_the_tasks_that_are_left():
    cancelled = []

    async def forever():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main():
        main.task = asyncio.create_task(forever())
        await asyncio.sleep(0)

    fastmux.run(main())

    assert cancelled == [True]


def test_new_event_loop_is_a_loop_factory():
    if sys.version_info < (3, 12):
        pytest.skip("asyncio.run() has no loop_factory")
    ran_on = asyncio.run(running(), loop_factory=fastmux.new_event_loop)

    assert ran_on is fastmux.EventLoop


async def running():
    return type(asyncio.get_running_loop())


def test_importing_fastmux_does_not_import_asyncio(run_python):
    assert run_python("import fastmux, sys; print('asyncio' in sys.modules)") == "False\n"
    assert run_python("import fastmux, sys; fastmux.EventLoop; print('asyncio' in sys.modules)") == "True\n"


def test_subprocesses_pipes_and_executors_work(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; sys.stdout.write(sys.stdin.read().upper())",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(b"text")
        number = await loop.run_in_executor(None, sum, (1, 2, 3))
        await loop.shutdown_default_executor()
        return out, process.returncode, number

    if sys.version_info < (3, 12):
        asyncio.set_event_loop(loop)  # for the child watcher
    try:
        assert run(loop, main()) == (b"TEXT", 0, 6)
    finally:
        asyncio.set_event_loop(None)


def test_eager_tasks_work(loop):
    if sys.version_info < (3, 12):
        pytest.skip("new in Python 3.12")
    order = []

    async def eager():
        order.append("begun")
        await asyncio.sleep(0)
        order.append("ended")

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(eager())
        order.append("created")
        await task

    run(loop, main())

    assert order == ["begun", "created", "ended"]
