"""Two threads that work on files, in every order of their steps: for tests of what happens when things cross.

A step is a call to the system that makes, opens, lists, renames or deletes something below a folder. Python tells of
each just before it is made (an audit hook). There the thread waits until it is its turn.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STEPS = ("open", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.scandir", "os.listdir")
WAIT_SECONDS = 60.0

_hooked = threading.Lock()
_running: Crossing | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _running is not None and event in STEPS and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _running.arrive(os.fsdecode(arguments[0]))


@dataclass
class _Side:
    """One of the two: it waits at a step, moves, or has come to its end."""

    thread: int = 0
    waits: bool = False
    over: bool = False


@dataclass
class Crossing:
    """One order of steps.

    Attributes:
        root: what is done outside of this folder is no step.
        wanted: whose turn it is, step by step; behind its end each goes on as long as it can.
        chosen: whose turn it was, and whether it could have been the other's.
    """

    root: str
    wanted: tuple[int, ...]
    chosen: list[tuple[int, bool]] = field(default_factory=list)
    _sides: tuple[_Side, _Side] = field(default_factory=lambda: (_Side(), _Side()))
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def arrive(self, path: str) -> None:
        """A thread is about to do something to a path."""
        if not path.startswith(self.root):
            return
        with self._changed:
            side = next((one for one in self._sides if one.thread == threading.get_ident()), None)
            if side is None or side.over:
                return
            side.waits = True
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not side.waits, WAIT_SECONDS)

    def take_part(self, side: int) -> None:
        """From here on, what this thread does belongs to one side."""
        with self._changed:
            self._sides[side].thread = threading.get_ident()

    def leave(self, side: int) -> None:
        """What this thread does from here on does not."""
        with self._changed:
            self._sides[side].over = True
            self._changed.notify_all()

    def direct(self) -> None:
        """Let one after the other make a step until both have come to their end."""
        last = 0
        with self._changed:
            while True:
                assert self._changed.wait_for(lambda: all(s.waits or s.over for s in self._sides), WAIT_SECONDS)
                ready = [number for number, side in enumerate(self._sides) if not side.over]
                if not ready:
                    return
                if len(self.chosen) < len(self.wanted):
                    last = self.wanted[len(self.chosen)]
                elif last not in ready:
                    last = ready[0]
                self.chosen.append((last, len(ready) > 1))
                self._sides[last].waits = False
                self._changed.notify_all()


def every_order(run: Callable[[tuple[int, ...]], Crossing], most_switches: int) -> int:
    """Run something in every order in which the threads take turns at most so many times; how many orders these were.

    Args:
        run: begins it anew, in an order (:attr:`Crossing.wanted`) that it gives to :func:`cross`.
        most_switches: from one thread to the other, while the first could have gone on.
    """
    left: list[tuple[tuple[int, ...], int]] = [((), 0), ((1,), 0)]
    count = 0
    while left:
        wanted, switches = left.pop()
        crossing = run(wanted)
        count += 1
        turns = [turn for turn, _ in crossing.chosen]
        for place in range(len(wanted), len(turns)):
            if place and crossing.chosen[place][1] and turns[place] == turns[place - 1] and switches < most_switches:
                left.append(((*turns[:place], 1 - turns[place]), switches + 1))
    return count


def cross(crossing: Crossing, first: Callable[[], None], second: Callable[[], None]) -> Crossing:
    """Let two sides cross. Each begins in a thread, and takes part in the one where its steps are made.

    Args:
        crossing: the order.
        first: side 0, in a thread of its own: it takes part as a whole.
        second: side 1: makes another thread work, which takes part and leaves by itself.
    """
    global _running
    failures: list[BaseException] = []

    def whole() -> None:
        crossing.take_part(0)
        try:
            first()
        except BaseException as error:  # told below
            failures.append(error)
        finally:
            crossing.leave(0)

    thread = threading.Thread(target=whole)
    with _hooked:
        if not getattr(sys, "_gristmill_crossings", False):  # a hook cannot be taken away again
            sys.addaudithook(_hook)
            sys._gristmill_crossings = True  # type: ignore[attr-defined]
        _running = crossing
        try:
            thread.start()
            second()
            crossing.direct()
        finally:
            _running = None
            thread.join(WAIT_SECONDS)
    if failures:
        raise failures[0]
    return crossing
