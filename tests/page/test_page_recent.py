"""Values that are made once for all who ask within a moment."""

from __future__ import annotations

import threading
from itertools import count

from gristmill.service.page.recent import Recent


def test_a_value_is_made_once_in_a_moment() -> None:
    now, numbers = [0.0], count()
    recent: Recent[str, int] = Recent(0.5, lambda: now[0])
    assert [recent.get("a", lambda: next(numbers)), recent.get("a", lambda: next(numbers))] == [0, 0]
    assert recent.get("b", lambda: next(numbers)) == 1
    now[0] = 0.5
    assert recent.get("a", lambda: next(numbers)) == 2


def test_what_has_changed_is_made_anew() -> None:
    recent: Recent[str, int] = Recent(60.0)
    recent.get("a", lambda: 1)
    recent.forget("a")
    assert recent.get("a", lambda: 2) == 2


def test_what_is_not_there_is_asked_for_again() -> None:
    recent: Recent[str, int] = Recent(9.0)
    assert [recent.get("a", lambda: None), recent.get("a", lambda: 7)] == [None, 7]


def test_many_who_ask_at_once_wait_for_one() -> None:
    made, found = [], []
    recent: Recent[str, int] = Recent(60.0)
    gate = threading.Event()

    def make() -> int:
        gate.wait(60)
        made.append(1)
        return 5

    threads = [threading.Thread(target=lambda: found.append(recent.get("a", make))) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert found == [5] * 20 and len(made) == 1


def test_few_are_held() -> None:
    recent: Recent[int, int] = Recent(60.0)
    for number in range(1000):
        recent.get(number, lambda: 1)
    assert recent.get(0, lambda: 2) == 2
