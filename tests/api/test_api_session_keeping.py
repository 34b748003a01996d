"""What a session keeps is read, not made again; and made again when it is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from operator import add
from pathlib import Path

import pytest

import gristmill as gm
from gristmill.api.session import Session
from gristmill.errors import SessionClosed
from gristmill.shuffle.shelf import SHARED_MEMORY, twin_of

LINES = 4000


@pytest.fixture(scope="module", params=["inline", "local"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    data_dir = tmp_path_factory.mktemp("data")
    with gm.Session(on=request.param, executors=2, memory="512MiB", data_dir=data_dir) as made:
        yield made


def text(folder: Path) -> Path:
    path = folder / "in.txt"
    path.write_text("".join(f"{number % 100} {number}\n" for number in range(LINES)))
    return path


def read_by(session: Session, dataset: gm.Dataset[object]) -> int:
    """How many records of files a job reads that computes a dataset."""
    with session.rows(dataset._node, "job") as rows:
        assert sum(1 for _ in rows)
        return rows.view.records_in


@pytest.mark.parametrize("level", list(gm.StorageLevel))
@pytest.mark.parametrize("compressed", [False, True])
def test_every_level_is_read_in_the_next_job(
    session: Session, tmp_path: Path, level: gm.StorageLevel, compressed: bool
) -> None:
    kept = session.read_text(text(tmp_path)).map(str.split).persist(level, compressed=compressed)
    first = kept.collect()
    assert read_by(session, kept.map(tuple)) == 0
    assert kept.collect() == first
    kept.unpersist()
    assert read_by(session, kept.map(tuple)) == LINES


def test_what_is_kept_behind_an_exchange_is_read(session: Session, tmp_path: Path) -> None:
    pairs = session.read_text(text(tmp_path)).map(lambda line: (line.split()[0], 1))
    sums = pairs.reduce_by_key(add).cache()
    expected = sorted(sums.collect())
    assert read_by(session, sums.map_values(lambda n: n + 1)) == 0
    assert read_by(session, sums.join(sums)) == 0
    assert sorted(sums.collect()) == expected


def test_another_input_does_not_change_how_it_is_cut(session: Session, tmp_path: Path) -> None:
    sums = session.read_text(text(tmp_path)).map(lambda line: (line.split()[0], 1)).reduce_by_key(add).cache()
    sums.count()
    other = session.range(100, partitions=7).map(lambda n: (str(n), n))
    assert read_by(session, sums.join(other)) == 100


def test_blocks_that_are_lost_are_made_again(session: Session, tmp_path: Path) -> None:
    kept = session.read_text(text(tmp_path)).map(str.split).map(tuple).persist("DISK")
    expected = sorted(kept.reduce_by_key(max).collect())
    assert sum(lost(path) for path in blocks_of(session))
    assert sorted(kept.reduce_by_key(max).collect()) == expected
    assert read_by(session, kept) == 0


def test_nothing_is_left_of_a_closed_session(tmp_path: Path) -> None:
    with gm.Session(on="local", executors=1, data_dir=tmp_path / "data") as session:
        kept = session.from_items([1, 2, 3]).cache()
        assert kept.sum() == 6
        folder = session._engine._folder.path  # type: ignore[union-attr]
        twin = twin_of(folder)
        assert twin is None or twin.is_dir()
    assert not folder.exists()
    assert twin is None or not twin.exists()
    assert list((tmp_path / "data" / "jobs").iterdir()) == []
    with pytest.raises(SessionClosed):
        kept.sum()


def lost(path: Path) -> int:
    """Remove a block; those of what is over are being removed anyway. Returns how many bytes are lost."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def blocks_of(session: Session) -> list[Path]:
    folder: Path = session._engine._folder.path  # type: ignore[union-attr]
    found = list((folder / "blocks").glob("*.block"))
    twin = twin_of(folder)
    assert SHARED_MEMORY.is_dir() == (twin is not None)
    return found + (list(twin.glob("*.block")) if twin is not None and twin.is_dir() else [])


def test_a_checkpoint_forgets_where_it_came_from(session: Session, tmp_path: Path) -> None:
    source = text(tmp_path)
    numbers = session.read_text(source).map(lambda line: (line, {len(line)}))
    expected = numbers.collect()
    assert numbers.checkpoint(tmp_path / "checkpoint") is numbers
    source.unlink()
    assert numbers.collect() == expected
    assert session.read_checkpoint(tmp_path / "checkpoint").map(lambda pair: pair[0]).count() == LINES


def test_a_checkpoint_of_nowhere_goes_with_its_session(tmp_path: Path) -> None:
    with gm.Session(on="inline", data_dir=tmp_path / "data") as session:
        numbers = session.range(10).checkpoint()
        assert numbers.collect() == list(range(10))
        assert list((tmp_path / "data" / "checkpoints").iterdir())
    assert not list((tmp_path / "data" / "checkpoints").iterdir())


def test_a_checkpoint_of_nowhere_goes_with_its_program(tmp_path: Path) -> None:
    script = (
        "import gristmill as gm\n"
        f"session = gm.Session(on='inline', data_dir={os.fspath(tmp_path / 'data')!r})\n"
        "print(session.range(3).checkpoint().collect())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[0, 1, 2]\n", run.stderr
    assert not list((tmp_path / "data" / "checkpoints").iterdir())


def test_what_is_kept_of_nothing_is_not_computed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def none(element: int) -> bool:
        with log.open("a") as file:
            file.write("x")
        return False

    with gm.Session(on="inline", data_dir=tmp_path / "data") as session:
        kept = session.range(6, partitions=2).filter(none).cache()
        assert [kept.count(), kept.count(), kept.collect()] == [0, 0, []]
    assert log.stat().st_size == 6
