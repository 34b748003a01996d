"""A world in virtual time: what happens when, and a network between one coordinator and its workers.

Over a ``Wire`` messages between two parties arrive in order, once, and late; between different parties anything goes. A
``Link`` (``sim_wire.py``) makes the same of a network that loses, repeats and reorders packets, with real sessions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random


class World:
    """Time, chance, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Have something happen at a time; things of one time in the order of these calls."""
        self._count += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._count, what))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        self.at(self.now + seconds, what)

    def turn(self) -> bool:
        """Let the next thing happen; False if there is none."""
        if not self._agenda:
            return False
        self.now, _, what = heapq.heappop(self._agenda)
        what()
        return True

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


class Wire:
    """One direction of a connection: in order, with a delay that changes; nothing passes while it is held."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last = 0.0
        self.held_until = 0.0

    def send(self, what: Callable[[], object]) -> None:
        delay = self._world.random.choice((0.0, 0.001, 0.001, 0.01, 0.1))
        self._last = max(self._last, self._world.now + delay, self.held_until)
        self._world.at(self._last, what)

    beat = send
    refuse = send
