"""What a session keeps is computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_kit import session

import gristmill as gm

__all__ = ["session"]


def logged(session: gm.Session, log: Path) -> gm.Dataset[int]:
    """Three elements; each leaves a line behind when it is computed."""

    def note(x: int) -> int:
        with log.open("a") as file:
            file.write("x\n")
        return x

    return session.range(3).map(note)


@pytest.mark.parametrize("level", ["MEMORY", "MEMORY_AND_DISK", "DISK"])
def test_what_is_kept_is_computed_once(session: gm.Session, tmp_path: Path, level: str) -> None:
    log = tmp_path / "log"
    kept = logged(session, log).persist(level)
    assert not log.exists()
    for _ in range(3):
        assert kept.map(str).collect() == ["0", "1", "2"]
    assert kept.sum() == 3
    assert len(log.read_text().split()) == 3
    assert kept.unpersist().count() == 3
    assert len(log.read_text().split()) == 6


def test_what_is_not_kept_is_computed_each_time(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"
    numbers = logged(session, log)
    assert numbers.count() == numbers.count() == 3
    assert len(log.read_text().split()) == 6


def test_pairs_that_are_kept_still_lie_by_their_keys(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"
    links = logged(session, log).key_by(lambda x: x % 2).group_by_key().cache()
    ranks = links.map_values(len)
    for _ in range(3):
        joined = links.join(ranks)
        assert sorted(joined.collect()) == [(0, ([0, 2], 2)), (1, ([1], 1))]
        assert "shuffle" not in joined.explain().partition("stage 2")[2]
        ranks = joined.map_values(lambda pair: len(pair[0]))
    assert len(log.read_text().split()) == 3
    # Beside a larger input there may be other partitions: what was kept is then computed again, and never mixed up.
    large = session.range(1000).key_by(lambda x: x % 2).map_values(str)
    assert links.join(large).count() == 1000


def test_cache_changes_the_dataset_itself(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"
    numbers = logged(session, log)
    assert numbers.cache() is numbers and numbers.cache() is numbers
    assert numbers.storage_level == gm.StorageLevel.MEMORY_AND_DISK
    assert (numbers.count(), numbers.sum()) == (3, 3)
    assert len(log.read_text().split()) == 3
