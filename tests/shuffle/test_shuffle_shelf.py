"""Where kept blocks lie: in shared memory while there is room, and only in what is one's own."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from gristmill.shuffle import shelf

pytestmark = pytest.mark.skipif(not shelf.SHARED_MEMORY.is_dir(), reason="needs shared memory")
BLOCK = 1000


def put(at: shelf.Shelf, name: str, *, droppable: bool = False) -> str:
    """Keep a block."""
    place = at.place_for(name, droppable=droppable)
    place.write_bytes(name[:1].encode() * BLOCK)
    return at.settle(place, at.folder / "instead.block")


def age(path: str, seconds: float) -> None:
    """Say that a block was used last at a time."""
    os.utime(shelf.located(path), (seconds, seconds))


def test_the_longest_unused_goes_to_disk_and_is_found_there(tmp_path: Path) -> None:
    at = shelf.Shelf(tmp_path, 3 * BLOCK, begun=1000.0)
    try:
        paths = [put(at, f"{name}.block") for name in "abc"]
        assert not any(Path(path).exists() for path in paths) and all(
            Path(shelf.located(path)).exists() for path in paths
        )
        for path, used in zip(paths, (30, 10, 20), strict=True):
            age(path, used)
        paths.append(put(at, "d.block"))
        assert [Path(path).exists() for path in paths] == [False, True, False, False]
        assert [Path(shelf.located(path)).read_bytes()[:1] for path in paths] == [b"a", b"b", b"c", b"d"]
    finally:
        shelf.clear(tmp_path)


def test_what_may_be_dropped_is_deleted_and_what_the_job_uses_stays(tmp_path: Path) -> None:
    at = shelf.Shelf(tmp_path, 2 * BLOCK, begun=1000.0)
    try:
        old, used = put(at, "a.block", droppable=True), put(at, "b.block", droppable=True)
        age(old, 10)
        age(used, 2000)
        new = put(at, "c.block", droppable=True)
        assert not Path(shelf.located(old)).exists()
        assert Path(shelf.located(used)).exists() and Path(shelf.located(new)).exists()
        age(new, 3000)
        assert put(at, "d.block", droppable=True) == str(tmp_path / "instead.block"), "there is no room for it"
    finally:
        shelf.clear(tmp_path)


def test_what_somebody_else_put_there_is_not_read(tmp_path: Path) -> None:
    twin = shelf.twin_of(tmp_path)
    assert twin is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.block").write_bytes(b"not ours")
    twin.symlink_to(elsewhere)  # anybody can do this
    try:
        assert shelf.located(str(tmp_path / "blocks" / "a.block")) == str(tmp_path / "blocks" / "a.block")
        place = shelf.Shelf(tmp_path, 1 << 20, 0.0).place_for("b.block", droppable=False)
        assert place == tmp_path / "blocks" / "b.block"
    finally:
        twin.unlink()


def test_what_belongs_to_a_deleted_folder_goes_after_a_while(tmp_path: Path) -> None:
    session, other = tmp_path / "deleted by hand", tmp_path / "there"
    try:
        paths = []
        for folder in (session, other):
            folder.mkdir()
            paths.append(put(shelf.Shelf(folder, 10 * BLOCK, 0.0), "a.block"))
        shutil.rmtree(session)
        shelf.sweep(time.time())
        assert all(Path(shelf.located(path)).exists() for path in paths), "it was used just now"
        shelf.sweep(time.time() + 1000)
        assert [Path(shelf.located(path)).exists() for path in paths] == [False, True]
    finally:
        shelf.clear(session)
        shelf.clear(other)
