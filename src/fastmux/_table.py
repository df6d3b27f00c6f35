"""The table of what is reported: ``(key, events)`` at the indices of the core (see _waiting.py).

Entries are put there before the core is told of a key. They are taken out after the core was told, and in this order:
first another ``_removal``, then the entries. So whoever finds an entry gone began to wait before that, and finds that
``_removal`` has changed.

The table may end before a key. To make it longer takes time and memory by the highest number and not by the number of
keys, and many a selector is made for one question. So it becomes longer when that pays; until then what is found of
such a key ends in an IndexError, and is built from the columns.
"""

from __future__ import annotations

import math
import os
from selectors import SelectorKey
from typing import Any, Final

#: The row of a descriptor that is no key.
NOTHING: Final = (None, None, None, None)
#: How many entries the table has at first, and how many more it may have for each time that one was missing: to make
#: so many takes as long as to do without a few times.
SHARE: Final = 256


class KeyTable:
    """A table that is changed and read without a lock, an entry at a time, in the order that is told above: a mixin.

    Whoever changes it has changed the keys before, or will say so again.
    """

    #: It becomes longer, never shorter; or another, empty one takes its place.
    _pairs: list[Any]
    #: Another object each time that something is taken out, for those who are waiting: it may have been reported to
    #: them before. Not a count: adding one takes several steps, and another thread may add one between them.
    _removal: object
    #: How long the table may be.
    _earned: float
    #: The numbers of keys that are, or were, beyond its end; if it is empty, all keys are.
    _beyond: set[int]
    #: Empty while somebody makes it longer.
    _idle: list[bool]

    def _begin_table(self) -> None:
        self._pairs = [None] * SHARE
        self._removal = object()
        self._earned = 0
        self._beyond = set()
        self._idle = [True]

    def _give_up_table(self) -> None:
        """Have nothing looked up any more."""
        self._earned = -math.inf
        self._pairs = []
        self._removal = object()  # for those who look into the table that was there

    def _row(self, key: SelectorKey) -> tuple[Any, ...]:
        """What can be reported for a key, at the four indices of its descriptor."""
        raise NotImplementedError

    def _put(self, fd: int, key: SelectorKey | None) -> None:
        """Put what belongs to a key into the table, or to none; or see to it that a longer table will have it.

        _grow() finds it among the keys; or is noticed here while it runs, or has ended.
        """
        index = fd << 2
        while True:
            pairs = self._pairs
            if index < len(pairs):
                pairs[index : index + 4] = self._row(key) if key else NOTHING
                return
            if key:
                self._beyond.add(fd)
            if not self._idle:
                self._pairs = []  # whoever makes the old one longer has that in hand
                return
            if pairs is self._pairs and index >= len(pairs):
                return

    def _grow_to(self, fd: int, keys: dict[int, SelectorKey]) -> None:
        """Have the table reach as far as fd, if that pays by now. In one step, with all that belongs there."""
        self._earned += SHARE
        end = ((fd | 63) + 1) << 2
        if end > self._earned:
            return
        try:
            os.fstat(fd)  # a number that is not in use would make a table of any length
            self._idle.pop()
        except (OSError, IndexError):
            return
        try:
            pairs = self._pairs
            more: list[Any] = [None] * (end - len(pairs))
            for other in tuple(self._beyond if pairs else keys):
                index = (other << 2) - len(pairs)
                if 0 <= index < len(more) and (key := keys.get(other)):
                    more[index : index + 4] = self._row(key)
            pairs.extend(more)
        finally:
            self._idle[:] = [True]
