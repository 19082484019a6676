"""States that were met, in memory that all processes of a search share."""

from __future__ import annotations

import mmap

WIDTH = 8
PROBES = 32
EMPTY = bytes(WIDTH)


class SeenStates:
    """A hash table of 8-byte fingerprints with open addressing. Two processes that write at once may both believe that they were first:
    then a state is explored twice, which costs time and nothing else. A full table forgets."""

    def __init__(self, states: int = 1 << 21) -> None:
        self._size = states
        self._memory = mmap.mmap(-1, states * WIDTH)

    def met(self, key: bytes) -> bool:
        """Was ``key`` here before? It is from now on."""
        place = int.from_bytes(key, "big")
        for step in range(PROBES):
            at = (place + step) % self._size * WIDTH
            here = self._memory[at : at + WIDTH]
            if here == key:
                return True
            if here == EMPTY:
                self._memory[at : at + WIDTH] = key
                return False
        return False

    def count(self) -> int:
        """How many states there are."""
        memory = self._memory[:]
        return sum(memory[at : at + WIDTH] != EMPTY for at in range(0, len(memory), WIDTH))
