"""Jobs on a cluster of real workers: the right result, whatever happens to a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Cluster, cluster

from gristmill import MapReduce


class WordCount(MapReduce):
    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def write_words(folder: Path, lines: int = 2000) -> tuple[Path, Counter[str]]:
    """Some text, and how often each of its words is in it."""
    text = "".join(
        f"{' '.join(f'w{(line * 7 + place * place) % 97}' for place in range(9))}\n" for line in range(lines)
    )
    path = folder / "words.txt"
    path.write_text(text)
    return path, Counter(text.split())


def counts_in(output: Path) -> Counter[str]:
    """What a word count wrote."""
    found: Counter[str] = Counter()
    for part in output.glob("part-*"):
        for line in part.read_text().splitlines():
            word, count = line.split("\t")
            found[word] += int(count)
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("shared")) as c:
        yield c


def test_two_workers_count_words(shared: Cluster, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    outcome = shared.run(WordCount, words, tmp_path / "out", split_size="4KiB", reducers=3)
    assert counts_in(tmp_path / "out") == expected
    assert outcome.view.failed_attempts == 0
