"""The partition of a key."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gristmill.compute.collect import stable_partition
from gristmill.records.keys import stable_hash

numbers = st.integers(-5, 5) | st.booleans() | st.floats(-5, 5) | st.decimals(-5, 5, places=1)
keys = numbers | st.text(max_size=3) | st.tuples(numbers, st.text(max_size=1))


@given(keys, st.integers(1, 1000))
def test_it_is_the_stable_hash_mod_partitions(key: object, partitions: int) -> None:
    partition = stable_partition(key, partitions)
    assert 0 <= partition < partitions
    assert partition == stable_hash(key) % partitions


@given(keys, keys, st.integers(1, 50))
def test_equal_keys_go_to_one_partition(a: object, b: object, partitions: int) -> None:
    if a == b:
        assert stable_partition(a, partitions) == stable_partition(b, partitions)


def test_known_partitions() -> None:
    """Pinned: output of earlier versions must stay comparable."""
    assert [stable_partition(word, 7) for word in ("", "the", "word")] == [0, 3, 0]
    assert len({stable_partition(one, 97) for one in (1, 1.0, True, Decimal(1))}) == 1


def test_keys_are_spread_evenly() -> None:
    for keys in ([f"user-{n}" for n in range(20_000)], list(range(20_000)), [(n, "x") for n in range(20_000)]):
        shares = Counter(stable_partition(key, 8) for key in keys)
        assert set(shares) == set(range(8))
        assert max(shares.values()) < 1.2 * 20_000 / 8
