"""What clients do: each kind is a script, a generator that has its client speak, and yields what to wait for.

A script that ends has its connection closed. Everything that it has said must have come back by then, or it has said
that it hangs up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from load import Client, Load, Wait

KIB, MIB = 1024, 1024 * 1024

Script = Callable[[Client, Random], Iterator[Wait]]


def size(dice: Random) -> int:
    """Of a message: 1 byte to 4 KiB, now and then up to 4 MiB, all orders of magnitude alike."""
    return int(2 ** (dice.uniform(0, 12) if dice.random() < 0.98 else dice.uniform(12, 22)))


def talker(client: Client, dice: Random) -> Iterator[Wait]:
    """A few messages, each a while after the answer to the last. Closes at once after that, or announces it."""
    for _ in range(dice.randint(1, 12)):
        client.say(size(dice))
        yield client.echoed
        yield dice.expovariate(1 / client.load.pause)
        if client.load.closing:
            break
    if dice.random() < 0.5:
        yield from client.leave()


def burster(client: Client, dice: Random) -> Iterator[Wait]:
    """Many messages, and does not wait for the answers."""
    for _ in range(dice.randint(1, 3)):
        for _ in range(dice.randint(10, 200)):
            client.say(int(2 ** dice.uniform(0, 12)))
        yield client.echoed
        yield dice.expovariate(1 / client.load.pause)
    yield from client.leave()


def half_closer(client: Client, dice: Random) -> Iterator[Wait]:
    """Announces the end while the answer is on its way."""
    client.say(int(2 ** dice.uniform(0, 22)))
    yield from client.leave()


def stalled_reader(client: Client, dice: Random) -> Iterator[Wait]:
    """Sends megabytes without reading what comes back. Much later reads it all, or hangs up."""
    client.reads = False
    client.say(dice.randint(MIB, 12 * MIB))
    yield dice.uniform(2, 10)
    if dice.random() < 0.3:
        client.hang_up()
        return
    client.reads = True
    yield client.echoed
    yield from client.leave()


def resetter(client: Client, dice: Random) -> Iterator[Wait]:
    """Hangs up in the middle of a message, sent or received."""
    message = int(2 ** dice.uniform(1, 22))
    part = dice.randrange(message)
    client.say(message)
    yield lambda: client.sent >= part
    if dice.random() < 0.5:
        yield lambda: client.received >= part
    client.hang_up()


def visitor(client: Client, dice: Random) -> Iterator[Wait]:
    """Comes and goes without a word; or is reset."""
    if dice.random() < 0.5:
        yield from client.leave()
    else:
        client.hang_up()


#: How many of a hundred, and which.
KINDS: dict[Script, int] = {talker: 55, burster: 10, half_closer: 12, stalled_reader: 2, resetter: 13, visitor: 8}
#: The kernel keeps little for these.
SMALL_BUFFER = 64 * KIB


def invite(load: Load) -> Client:
    """One client more, of some kind."""
    (script,) = load.dice.choices(list(KINDS), KINDS.values())
    client = Client(load, script.__name__, SMALL_BUFFER if script is stalled_reader else None)
    client.script = script(client, load.dice)
    return client
