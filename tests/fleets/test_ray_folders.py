"""What killed members leave on their node is deleted by the next one, and what others use is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gristmill.errors import UsageError
from gristmill.fleets.ray.folders import open_folder, sweep
from gristmill.shuffle.shelf import Shelf, twin_of

pytest.importorskip("fcntl")

_MEMBER = """
import sys
from pathlib import Path
from gristmill.fleets.ray.folders import open_folder
dirs = open_folder(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_members_folder_is_deleted_by_the_next(tmp_path: Path) -> None:
    base = tmp_path / "ray"
    theirs = base / "gristmill-1-1"
    with subprocess.Popen(
        [sys.executable, "-c", _MEMBER, str(theirs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as member:
        assert member.stdout is not None and member.stdout.readline() == b"ready\n"
        (theirs / "jobs/j/blocks").mkdir(parents=True)
        (theirs / "jobs/j/blocks/b.block").write_bytes(b"block")
        mine = open_folder(base / "gristmill-2-1")
        assert sweep(base) == [], "both are in use"
        with pytest.raises(UsageError):
            open_folder(theirs)
        member.kill()
    assert sweep(base) == [theirs]
    assert sorted(path.name for path in base.iterdir()) == ["gristmill-2-1", "lock"]
    mine.close()


def test_what_is_half_deleted_goes_too_and_what_is_no_members_stays(tmp_path: Path) -> None:
    half, other = tmp_path / "gristmill-1-2", tmp_path / "mine"
    for folder in (half / "jobs/j", other):
        folder.mkdir(parents=True)
    assert sweep(tmp_path) == [half]
    assert other.is_dir() and not half.exists()


def test_what_lies_in_shared_memory_goes_along(tmp_path: Path) -> None:
    folder = tmp_path / "gristmill-1-3"
    open_folder(folder).close()
    session = folder / "jobs" / "session-1"
    session.mkdir()
    twin = twin_of(session)
    if twin is None:
        pytest.skip("no shared memory here")
    kept = Shelf(session, 1 << 20, 0.0).place_for("a.block", droppable=False)
    kept.write_bytes(b"block")
    assert kept.parent == twin
    assert sweep(tmp_path) == [folder]
    assert not twin.exists() and not folder.exists()


def test_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "never-made") == []
