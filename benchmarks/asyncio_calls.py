"""What an asyncio program does without any socket: measured in CPU time of the whole process.

    python -m benchmarks.asyncio_calls LOOP CALL COUNT

It prints the nanoseconds per call.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from .asyncio_server import make_loop


async def sleepers(count: int) -> None:
    """All at once; the time that they sleep costs nothing."""
    await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(count)))


async def chain(count: int) -> None:
    """Each callback queues the next one: a turn of the loop for each."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def next_one(left: int) -> None:
        if left:
            loop.call_soon(next_one, left - 1)
        else:
            done.set_result(None)

    next_one(count)
    await done


async def ping_pong(count: int) -> None:
    """Two tasks and two queues."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(count):
            await back.put(await there.get())

    answering = asyncio.ensure_future(answer())
    for number in range(count):
        await there.put(number)
        await back.get()
    await answering


CALLS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "sleepers": sleepers,
    "chain": chain,
    "ping-pong": ping_pong,
}


def main() -> None:
    loop, call, count = make_loop(sys.argv[1]), CALLS[sys.argv[2]], int(sys.argv[3])
    loop.run_until_complete(call(count // 10))  # the first ones pay for what is made once
    begin = time.process_time_ns()
    loop.run_until_complete(call(count))
    print((time.process_time_ns() - begin) / count)
    loop.close()


if __name__ == "__main__":
    main()
