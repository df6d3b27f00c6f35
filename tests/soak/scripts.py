"""The kinds of clients: each is a script, a generator that queues messages and yields conditions to wait for.

The end of a script closes its connection. By then the whole echo must be back, or the script has called hang_up().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from load import Client, Load, Wait

KIB, MIB = 1024, 1024 * 1024

Script = Callable[[Client, Random], Iterator[Wait]]


def size(rng: Random) -> int:
    """Return the size of a message: 1 byte to 4 KiB, sometimes up to 4 MiB, log-uniform."""
    return int(2 ** (rng.uniform(0, 12) if rng.random() < 0.98 else rng.uniform(12, 22)))


def talker(client: Client, rng: Random) -> Iterator[Wait]:
    """A few messages, each after a pause since the last echo. Then an orderly close, or one without shutdown."""
    for _ in range(rng.randint(1, 12)):
        client.queue_message(size(rng))
        yield client.echoed
        yield rng.expovariate(1 / client.load.pause)
        if client.load.closing:
            break
    if rng.random() < 0.5:
        yield from client.leave()


def burster(client: Client, rng: Random) -> Iterator[Wait]:
    """Bursts of messages, without waits for the echo."""
    for _ in range(rng.randint(1, 3)):
        for _ in range(rng.randint(10, 200)):
            client.queue_message(int(2 ** rng.uniform(0, 12)))
        yield client.echoed
        yield rng.expovariate(1 / client.load.pause)
    yield from client.leave()


def half_closer(client: Client, rng: Random) -> Iterator[Wait]:
    """Half-close during the echo."""
    client.queue_message(int(2 ** rng.uniform(0, 22)))
    yield from client.leave()


def stalled_reader(client: Client, rng: Random) -> Iterator[Wait]:
    """Megabytes without reading. Seconds later read it all, or reset."""
    client.reads = False
    client.queue_message(rng.randint(MIB, 12 * MIB))
    yield rng.uniform(2, 10)
    if rng.random() < 0.3:
        client.hang_up()
        return
    client.reads = True
    yield client.echoed
    yield from client.leave()


def resetter(client: Client, rng: Random) -> Iterator[Wait]:
    """Reset in the middle of a message, sent or received."""
    message = int(2 ** rng.uniform(1, 22))
    part = rng.randrange(message)
    client.queue_message(message)
    yield lambda: client.sent >= part
    if rng.random() < 0.5:
        yield lambda: client.received >= part
    client.hang_up()


def visitor(client: Client, rng: Random) -> Iterator[Wait]:
    """No message; an orderly close or a reset."""
    if rng.random() < 0.5:
        yield from client.leave()
    else:
        client.hang_up()


#: The percentage of each kind.
KINDS: dict[Script, int] = {talker: 55, burster: 10, half_closer: 12, stalled_reader: 2, resetter: 13, visitor: 8}
#: The receive buffer of clients that do not read.
SMALL_BUFFER = 64 * KIB


def make_client(load: Load) -> Client:
    """Create a client of a random kind."""
    (script,) = load.rng.choices(list(KINDS), KINDS.values())
    client = Client(load, script.__name__, SMALL_BUFFER if script is stalled_reader else None)
    client.script = script(client, load.rng)
    return client
