"""What tasks share of decoded rows cannot be changed by any of them."""

from __future__ import annotations

from typing import Any

import pytest

from gristmill.runtime.executor.decoded import Decoded, rows_to_share


@pytest.mark.parametrize(
    "elements",
    [[], [1, "a", None], [("a", 1.5), ("b", (1, "c"))], [("a", ["b", "c"]), ("b", [])], [((1, 2), [(1, "x"), 3])]],
)
def test_plain_elements_are_shared(elements: list[Any]) -> None:
    rows = rows_to_share(iter(elements))
    assert rows is not None
    assert list(rows) == list(rows) == elements
    assert len(rows.elements) == len(elements)


@pytest.mark.parametrize("elements", [[[1]], [{"a": 1}], [("a", [[1]])], [("a", {})], [("a", [1], 2)], [(([],), 1)]])
def test_elements_that_can_be_changed_are_not(elements: list[Any]) -> None:
    assert rows_to_share(iter(elements)) is None


def test_lists_are_each_takers_own() -> None:
    rows = rows_to_share(iter([("a", [1, 2])]))
    assert rows is not None
    for _, values in rows:
        values.clear()
    assert list(rows) == [("a", [1, 2])]


def test_the_least_recently_used_goes_first() -> None:
    decoded = Decoded()
    made: list[str] = []

    def get(name: str, size: int = 4) -> str:
        def make() -> str:
            made.append(name)
            return name

        found: str = decoded.get((name,), size, 10, make)
        return found

    for name in ("a", "b", "a", "c", "a", "b"):
        assert get(name) == name
    assert made == ["a", "b", "c", "b"]
    get("large", 11)
    get("large", 11)
    assert made[-2:] == ["large", "large"]
