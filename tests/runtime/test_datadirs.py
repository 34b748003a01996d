"""The data directories of a worker: whose turn it is, who is full, who has failed, and what is lost with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gristmill.errors import UsageError
from gristmill.runtime.worker.datadirs import FULL_SECONDS, MIN_FREE_BYTES, PROBE_SECONDS, ROOM_SECONDS, DataDirs


class Disks:
    """How much room each directory has."""

    def __init__(self, root: Path, count: int) -> None:
        self.paths = [root / f"d{number}" for number in range(count)]
        for path in self.paths:
            (path / "jobs").mkdir(parents=True)
        self.room = dict.fromkeys(self.paths, 10 * MIN_FREE_BYTES)
        self.dirs = DataDirs(self.paths, self.room.__getitem__)

    def turns(self, count: int, now: float = 0.0) -> list[str]:
        return [chosen.name for _ in range(count) if (chosen := self.dirs.choose(now)) is not None]


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path, 3)


def block(disk: Path, job: str = "j", name: str = "b") -> str:
    return str(disk / "jobs" / job / "blocks" / f"{name}.block")


def test_each_has_its_turn(disks: Disks) -> None:
    assert disks.turns(5) == ["d0", "d1", "d2", "d0", "d1"]


def test_a_full_one_is_passed_over_until_it_has_room(disks: Disks) -> None:
    disks.room[disks.paths[1]] = MIN_FREE_BYTES - 1
    assert disks.turns(4) == ["d0", "d2", "d0", "d2"]
    disks.room[disks.paths[1]] = MIN_FREE_BYTES
    assert disks.turns(2, now=FULL_SECONDS - 0.1) == ["d0", "d2"], "it is not looked at all the time"
    assert "d1" in disks.turns(3, now=FULL_SECONDS)


def test_one_that_has_room_is_not_looked_at_for_each_attempt(disks: Disks) -> None:
    assert disks.turns(3) == ["d0", "d1", "d2"]
    disks.room[disks.paths[0]] = 0
    assert disks.turns(3, now=ROOM_SECONDS / 2) == ["d0", "d1", "d2"]
    assert disks.turns(3, now=ROOM_SECONDS) == ["d1", "d2", "d1"]


def test_one_in_which_an_attempt_found_no_room_rests(disks: Disks) -> None:
    disks.dirs.mark_full(block(disks.paths[0]), 5.0)
    assert disks.turns(4, now=5.0) == ["d1", "d2", "d1", "d2"]
    assert "d0" in disks.turns(3, now=5.0 + FULL_SECONDS)


def test_if_all_are_full_it_is_the_one_with_most_room(disks: Disks) -> None:
    for room, path in enumerate(disks.paths):
        disks.room[path] = room
    assert disks.turns(3) == ["d2", "d2", "d2"]


def test_a_retired_one_takes_its_blocks_along(disks: Disks) -> None:
    for disk in disks.paths:
        disks.dirs.add_block("j", block(disk))
    disks.dirs.add_block("k", block(disks.paths[1], "k"))
    gone = disks.dirs.retire(disks.paths[1] / "jobs/j/scratch/x", "Input/output error")
    assert set(gone) == {block(disks.paths[1]), block(disks.paths[1], "k")}
    assert disks.dirs.retire(disks.paths[1], "again") == ()
    assert disks.dirs.retired == {disks.paths[1]: "Input/output error"}
    assert disks.turns(4) == ["d0", "d2", "d0", "d2"]
    assert disks.dirs.inventory() == {"j": (block(disks.paths[0]), block(disks.paths[2]))}
    disks.dirs.add_block("j", block(disks.paths[1], name="late"))
    assert block(disks.paths[1], name="late") not in disks.dirs.inventory()["j"]


def test_none_is_left(disks: Disks) -> None:
    for disk in disks.paths:
        disks.dirs.retire(disk, "gone")
    assert disks.dirs.choose(0.0) is None
    assert disks.dirs.healthy == ()


def test_blocks_come_and_go(disks: Disks) -> None:
    disks.dirs.add_block("j", block(disks.paths[0]))
    disks.dirs.add_block("j", "/elsewhere/b.block")
    disks.dirs.remove_block("/elsewhere/b.block")
    assert disks.dirs.inventory() == {"j": (block(disks.paths[0]),)}
    disks.dirs.remove_block(block(disks.paths[0]))
    assert disks.dirs.inventory() == {}


def test_a_path_of_no_directory_changes_nothing(disks: Disks) -> None:
    assert disks.dirs.retire("/elsewhere", "why") == ()
    assert disks.dirs.check("/elsewhere", 0.0) == ()
    assert disks.dirs.retire(str(disks.paths[0]) + "x", "its name only begins alike") == ()
    assert len(disks.dirs.healthy) == 3


def test_a_check_keeps_what_works(disks: Disks) -> None:
    disks.dirs.add_block("j", block(disks.paths[0]))
    assert disks.dirs.check(block(disks.paths[0]), 0.0) == ()
    assert len(disks.dirs.healthy) == 3
    assert [path.name for path in disks.paths[0].iterdir()] == ["jobs"], "a probe leaves nothing"


def test_a_directory_that_was_just_tried_is_not_tried_again(disks: Disks) -> None:
    """Many blocks may be missed at once, and each asks for a check."""
    disks.dirs.check(disks.paths[0], 5.0)
    (disks.paths[0] / "jobs").rmdir()
    disks.paths[0].rmdir()
    disks.dirs.check(disks.paths[0], 5.0 + PROBE_SECONDS / 2)
    assert disks.paths[0] in disks.dirs.healthy
    disks.dirs.check(disks.paths[0], 5.0 + PROBE_SECONDS)
    assert disks.paths[0] in disks.dirs.retired


def test_a_check_retires_what_is_not_there_any_more(disks: Disks) -> None:
    disks.dirs.add_block("j", block(disks.paths[0]))
    (disks.paths[0] / "jobs").rmdir()
    disks.paths[0].rmdir()
    assert disks.dirs.check(block(disks.paths[0]), 0.0) == (block(disks.paths[0]),)
    assert disks.paths[0] in disks.dirs.retired


def test_what_is_found_at_the_start(tmp_path: Path) -> None:
    found = tmp_path / "a" / "jobs" / "j" / "blocks" / "x.block"
    found.parent.mkdir(parents=True)
    found.write_bytes(b"x")
    (found.parent / "y.block.tmp").write_bytes(b"half of it")
    dirs = DataDirs.open([tmp_path / "a", tmp_path / "new" / "b"])
    assert dirs.inventory() == {"j": (str(found),)}
    assert dirs.jobs() == ("j",)
    assert (tmp_path / "new" / "b" / "jobs").is_dir()
    dirs.remove_job("j")
    assert dirs.inventory() == {} and dirs.jobs() == ()
    dirs.close()
    dirs.close()


def test_one_that_cannot_be_used_is_retired_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    dirs = DataDirs.open([tmp_path / "file" / "d", tmp_path / "good"])
    assert dirs.healthy == (tmp_path / "good",)
    dirs.close()
    with pytest.raises(UsageError, match="No data directory can be written"):
        DataDirs.open([tmp_path / "file" / "d"])


def test_two_names_of_one_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match="twice"):
        DataDirs.open([tmp_path / "a", tmp_path / "link"])


HOLD = """
import sys
from pathlib import Path
from gristmill.runtime.worker.datadirs import DataDirs
dirs = DataDirs.open([Path(sys.argv[1])])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="no such locks")
def test_no_two_workers_share_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="used by another worker"):
            DataDirs.open([tmp_path / "b", tmp_path / "a"])
        other.kill()  # the system releases the lock
    DataDirs.open([tmp_path / "b", tmp_path / "a"]).close()


def test_what_is_kept_can_be_asked_for_while_it_changes(disks: Disks) -> None:
    """A worker that drains asks again and again, while blocks are freed in another thread."""
    for number in range(20_000):
        disks.dirs.add_block("j", block(disks.paths[0], name=str(number)))
    more = block(disks.paths[0], name="more")
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            disks.dirs.add_block("j", more)
            disks.dirs.remove_block(more)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(30):
            assert len(disks.dirs.inventory()["j"]) in (20_000, 20_001)
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join(60)


def test_others_cannot_look_into_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "jobs").mkdir(parents=True)
    old.chmod(0o755)
    dirs = DataDirs.open([old, new])
    assert [path.stat().st_mode & 0o777 for path in (old, new, new / "jobs")] == [0o700] * 3
    dirs.close()
