"""The same pairs make the same block, byte for byte, whatever was in the memory before: digests rely on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gristmill.compute import collect
from gristmill.compute.collect import Collector

KINDS = {
    "str": lambda c: "x" * c.randrange(9),
    "few": lambda c: f"one of few {c.randrange(4)}",
    "int": lambda c: c.randrange(-5, 10**12),
    "float": lambda c: c.random(),
    "bool": lambda c: c.random() < 0.5,
    "bytes": lambda c: c.randbytes(c.randrange(5)),
    "date": lambda c: date(2026, 1, 1 + c.randrange(28)),
    "datetime": lambda c: datetime(2026, 1, 1, c.randrange(24)),
    "tuple": lambda c: (c.randrange(9), "t" * c.randrange(3), None if c.random() < 0.3 else c.random() < 0.5),
    "pickled": lambda c: [Decimal(c.randrange(99))],
    "mixed": lambda c: c.choice([1, "a", 2.5, b"b", (1,)]),
    "none": lambda _: None,
}


def dirty_memory(filling: int) -> None:
    """Leave rubbish where the next buffers will be."""
    kept = [pa.allocate_buffer(size) for size in (64, 128, 256, 512, 1024, 4096, 16384, 65536) for _ in range(50)]
    for buffer in kept:
        view = memoryview(buffer).cast("B")
        view[:] = bytes([filling]) * len(view)


def joined(_key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield from ((_key, value) for value in values)


@pytest.mark.parametrize("combiner", [None, joined])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_made_again_byte_for_byte(
    kind: str, nulls: bool, combiner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 32 * 1024)
    chance = random.Random(kind)
    draw = KINDS[kind]
    keys = [f"key{n}" for n in range(200)] if chance.random() < 0.5 else list(range(200))
    pairs = [(chance.choice(keys), None if nulls and chance.random() < 0.2 else draw(chance)) for _ in range(3_000)]
    made = set()
    for number in range(3):
        dirty_memory((0, 0xFF, 0x55)[number])
        collector = Collector(5, tmp_path / f"s{number}", tmp_path / f"b{number}", combiner, None)
        collector.consume(iter(pairs))
        made.add(collector.finish().segments)
    assert collector.spilled_bytes, "runs are cut and merged"
    assert len(made) == 1
