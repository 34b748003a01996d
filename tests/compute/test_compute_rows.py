"""Records as rows: what comes back is what went in, in its order."""

from __future__ import annotations

import math
import threading
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.compute.rows import RowsWriter, read_rows
from gristmill.errors import UserCodeError
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.contracts import BlockInfo

records = st.recursive(
    st.sampled_from([None, True, 1, 1.0, -0.0, Decimal(1), "a\udc80", b"b\x00", 1 << 80, "", ()])
    | st.integers()
    | st.text(max_size=3),
    lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=6,
)


def written(batches: list[list[Any]], target: Path) -> BlockInfo:
    writer = RowsWriter(target)
    for some in batches:
        writer.consume(iter(some))
    return writer.finish()


def read(block: BlockInfo) -> list[Any]:
    return [record for some in read_rows(read_segment(block, 0)) for record in some]


@given(batches=st.lists(st.lists(records, max_size=20), max_size=4))
def test_all_records_come_back_in_order(batches: list[list[Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    flat = [record for some in batches for record in some]
    block = written(batches, tmp_path_factory.mktemp("rows") / "block")
    assert block.segment(0).rows == len(flat)
    assert repr(read(block)) == repr(flat)


def test_a_block_without_rows_makes_no_file(tmp_path: Path) -> None:
    block = written([[], []], tmp_path / "block")
    assert block == BlockInfo("", ())
    assert read(block) == []
    assert list(tmp_path.iterdir()) == []


def test_lists_are_bounded_on_the_way_back(tmp_path: Path) -> None:
    for number, record in enumerate(("x" * 10, "y" * 3000, ("a", 1.5), {"key": [1, 2]})):
        block = written([[record] * 30_000], tmp_path / f"{number}")
        lengths = [len(some) for some in read_rows(read_segment(block, 0))]
        assert sum(lengths) == 30_000
        assert max(lengths) <= 16 * 1024
        assert max(lengths) * len(repr(record)) <= 2 * 1024 * 1024


@pytest.mark.parametrize("nested", [False, True])
def test_huge_records_among_small_ones_do_not_pile_up(tmp_path: Path, nested: bool) -> None:
    def made() -> Iterator[Any]:
        for n in range(20_000):
            text = "x" * (1_000_000 if 5_000 <= n < 5_100 else 10)
            yield (n, text) if nested else text

    writer = RowsWriter(tmp_path / "block")
    tracemalloc.start()
    writer.consume(made())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    block = writer.finish()
    assert block.segment(0).rows == 20_000
    assert peak < 70_000_000, "once they are met no more than one is held, and before that a look's worth"


def test_what_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    writer = RowsWriter(tmp_path / "block")
    with pytest.raises(UserCodeError, match=r"A record of type _thread.lock cannot be stored or sent") as caught:
        writer.consume(iter([1, 2, threading.Lock()]))
        writer.finish()
    assert caught.value.report.advice
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_an_error_when_a_record_is_pickled_is_named(tmp_path: Path) -> None:
    class Shy:
        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    writer = RowsWriter(tmp_path / "block")
    writer.consume(iter([math.inf, Shy()]))
    with pytest.raises(UserCodeError, match=r"Shy cannot be stored or sent: RuntimeError: not me"):
        writer.finish()


def test_discarded_rows_leave_nothing(tmp_path: Path) -> None:
    writer = RowsWriter(tmp_path / "block")
    writer.consume(iter(range(200_000)))
    assert list(tmp_path.iterdir())
    writer.discard()
    assert list(tmp_path.iterdir()) == []
