"""What mypy knows of chains, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

KNOWN = """\
from operator import add
from typing import Any
import gristmill as gm

def kept(word: str) -> bool:
    return bool(word)
def pair(word: str) -> tuple[str, int]:
    return word, 1

words = gm.read_text("a").flat_map(str.split)
reveal_type(words)  # Dataset[str]
pairs = words.map(lambda word: (word, 1))
reveal_type(pairs)  # Dataset[tuple[str, int]]
counts = pairs.reduce_by_key(add)
reveal_type(counts)  # Dataset[tuple[str, int]]
reveal_type(words.filter(kept).map(pair).count_by_key())  # dict[str, int]
reveal_type(words.filter(kept).count_by_value())  # dict[str, int]
reveal_type(counts.collect())  # list[tuple[str, int]]
reveal_type(counts.first())  # tuple[str, int]
reveal_type(counts.keys())  # Dataset[str]
reveal_type(counts.map_values(float).values())  # Dataset[float]
reveal_type(counts.join(words.map(lambda word: (word, b""))))  # Dataset[tuple[str, tuple[int, bytes]]]
reveal_type(pairs.group_by_key())  # Dataset[tuple[str, Sequence[int]]]
reveal_type(words.group_by(len))  # Dataset[tuple[int, Sequence[str]]]
reveal_type(pairs.aggregate_by_key(0.0, lambda total, n: total + n, add))  # Dataset[tuple[str, float]]
reveal_type(pairs.left_join(counts.map_values(str)))  # Dataset[tuple[str, tuple[int, str | None]]]
reveal_type(pairs.right_join(counts.map_values(str)))  # Dataset[tuple[str, tuple[int | None, str]]]
reveal_type(pairs.cogroup(words.key_by(str)))  # Dataset[tuple[str, tuple[Sequence[int], Sequence[str]]]]
reveal_type(pairs.partition_by(2).subtract_by_key(words.key_by(str)).sort_by_key())  # Dataset[tuple[str, int]]
reveal_type(words.cartesian(pairs.distinct()))  # Dataset[tuple[str, tuple[str, int]]]
reveal_type(words.intersection(words.subtract(words)))  # Dataset[str]
reveal_type(gm.range(3).zip(words))  # Dataset[tuple[int, str]]
reveal_type(words.zip_with_index())  # Dataset[tuple[str, int]]
reveal_type(gm.from_items([1.5]).reduce(add))  # float
reveal_type(gm.range(3).union(gm.range(4)).repartition(2).sample(0.5).cache())  # Dataset[int]
reveal_type(gm.range(3).aggregate("", lambda text, n: text + str(n), add))  # str
reveal_type(gm.range(3).glom().take(1))  # list[list[int]]
reveal_type(gm.range(3).map_partitions(lambda part: [sum(part)]))  # Dataset[int]
reveal_type(words.sort_by(len).top(3, key=len))  # list[str]
reveal_type(gm.range(3).fold(0, add))  # int
reveal_type(gm.read_whole_files("a"))  # Dataset[tuple[str, str]]
reveal_type(gm.read_parquet("a"))  # Dataset[dict[str, Any]]
with gm.Session(on="inline") as session:
    reveal_type(session.from_items(["a"]).iterate())  # Iterator[str]
"""

REFUSED = """\
import gristmill as gm
gm.range(3).reduce_by_key(max)
gm.range(3).map(str.upper)
gm.range(3).write_text("a", mode="replace")
gm.range(3).write_text("a", colour="red")
gm.range(3).persist()[0]
gm.range(3).count_by_key()
gm.range(3).join(gm.range(3))
gm.range(3).key_by(str).partition_by(2, hex)
gm.range(3).sort_by(len)
"""


def test_mypy_knows_the_elements_of_chains(tmp_path: Path) -> None:
    (tmp_path / "known.py").write_text(KNOWN, encoding="utf-8")
    (tmp_path / "refused.py").write_text(REFUSED, encoding="utf-8")
    files = [str(tmp_path / "known.py"), str(tmp_path / "refused.py")]
    text, failure, _ = api.run(["--strict", "--no-color-output", "--cache-dir", str(tmp_path / "cache"), *files])
    assert not failure
    revealed = {
        int(line): re.sub(r"\b[a-z_]+(\.[a-z_]+)*\.(?=[A-Za-z])", "", kind)
        for line, kind in re.findall(r'known\.py:(\d+): note: Revealed type is "(.*)"', text)
    }
    wanted = {
        number: line.partition("  # ")[2]
        for number, line in enumerate(KNOWN.splitlines(), start=1)
        if "reveal_type" in line
    }
    assert revealed == wanted
    assert not re.findall(r".*known\.py:\d+: error.*", text)
    refused = {int(line) for line in re.findall(r"refused\.py:(\d+): error", text)}
    assert refused == set(range(2, len(REFUSED.splitlines()) + 1))
