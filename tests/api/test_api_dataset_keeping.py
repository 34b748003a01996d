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


def test_cache_changes_the_dataset_itself(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"
    numbers = logged(session, log)
    assert numbers.cache() is numbers and numbers.cache() is numbers
    assert numbers.storage_level == gm.StorageLevel.MEMORY_AND_DISK
    assert (numbers.count(), numbers.sum()) == (3, 3)
    assert len(log.read_text().split()) == 3
