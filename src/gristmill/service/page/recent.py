"""What was made a moment ago, for others who ask for the same."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST = 64


class Recent(Generic[K, V]):
    """Values by key, for a moment. Any thread may call; those who ask for the same at the same time wait for one.

    Args:
        seconds: how long a value is good.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[K, _Held[V]] = OrderedDict()

    def get(self, key: K, make: Callable[[], V | None]) -> V | None:
        """The value; None, which is not kept, if there is none."""
        with self._lock:
            held = self._held.setdefault(key, _Held())
            self._held.move_to_end(key)
            while len(self._held) > _MOST:
                self._held.popitem(last=False)
        with held.lock:
            if held.value is None or self._clock() >= held.until:
                held.value = make()
                held.until = self._clock() + self._seconds
            return held.value

    def forget(self, key: K) -> None:
        """It has just changed."""
        with self._lock:
            self._held.pop(key, None)


class _Held(Generic[V]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: V | None = None
        self.until = 0.0
