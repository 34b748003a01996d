"""What is opened where user code may have put something else: no link, no pipe, nothing from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gristmill.errors import BlockMissing
from gristmill.runtime.executor.logs import log_tail
from gristmill.runtime.files.joblogs import LogKeeper, list_logs, read_log
from gristmill.runtime.files.opening import is_block_of, open_block, open_inside
from gristmill.shuffle.contracts import SegmentInfo

WHOLE = SegmentInfo(1, 3, 1, 0)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


def block_of(root: Path) -> Path:
    path = root / "jobs" / "session" / "blocks" / "b.block"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"-row-")
    return path


def test_a_block_is_read_where_it_lies(tmp_path: Path) -> None:
    path = block_of(tmp_path)
    (tmp_path / "disk").symlink_to(tmp_path)  # a data directory that was moved
    for place in (path, tmp_path / "disk" / path.relative_to(tmp_path)):
        with open_block(str(place), "session", WHOLE) as file:
            assert file.read(3) == b"row"


@pytest.mark.parametrize("how", ["link", "pipe", "folder", "linked folder", "short", "negative", "gone"])
def test_what_was_put_in_the_place_of_a_block_is_not_read(tmp_path: Path, secret: Path, how: str) -> None:
    path, segment = block_of(tmp_path), WHOLE
    if how == "linked folder":
        path.rename(tmp_path / "b.block")
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path)
    elif how in ("short", "negative"):
        segment = SegmentInfo(3, 3, 1, 0) if how == "short" else SegmentInfo(-1, 3, 1, 0)
    else:
        path.unlink()
        if how == "link":
            path.symlink_to(secret)
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "folder":
            path.mkdir()
    with pytest.raises(BlockMissing):
        open_block(str(path), "session", segment)


def test_paths_of_others_are_no_blocks(tmp_path: Path, secret: Path) -> None:
    path = block_of(tmp_path)
    assert is_block_of(str(path), ("job", "session"))
    others = str(secret), str(path.parent / ".." / "blocks" / "b.block"), "", "b.block", "/etc/passwd", str(path.parent)
    for other in others:
        assert not is_block_of(other, ("job", "session"))
        with pytest.raises(BlockMissing):
            open_block(other, "session", WHOLE)
    with pytest.raises(BlockMissing):
        open_block(str(path), "other", WHOLE)


def test_a_folder_that_is_exchanged_after_it_was_checked_leads_nowhere(tmp_path: Path, secret: Path) -> None:
    out = tmp_path / "above" / "out"
    out.mkdir(parents=True)
    (out / "part").write_text("part")
    place = os.path.realpath(out)
    with open_inside(place, "part") as file:
        assert file.read() == b"part"
    (tmp_path / "elsewhere" / "out").mkdir(parents=True)
    (tmp_path / "elsewhere" / "out" / "part").write_bytes(secret.read_bytes())
    (tmp_path / "above").rename(tmp_path / "before")
    (tmp_path / "above").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        open_inside(place, "part")
    for name in ("../secret", str(secret), "a/../../secret"):
        with pytest.raises(OSError):
            open_inside(str(tmp_path / "before" / "out"), name)


def test_a_pipe_in_the_place_of_a_log_keeps_nobody_waiting(tmp_path: Path, secret: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(secret)
    assert log_tail(tmp_path / "pipe") == log_tail(tmp_path / "link") == ""
    assert log_tail(secret) == "secret"


def test_the_server_keeps_and_shows_logs_through_no_link(tmp_path: Path, secret: Path) -> None:
    logs = tmp_path / "job" / "logs"
    logs.mkdir(parents=True)
    link, pipe, own = (f"j-s0-t0000{number}-a1" for number in range(3))
    (logs / f"{link}.log").symlink_to(secret)
    os.mkfifo(logs / f"{pipe}.log")
    keeper = LogKeeper()
    for name in (link, pipe, own):
        keeper.keep(str(tmp_path / "job"), name, b"printed")
    keeper.close()
    assert secret.read_text() == "secret"
    assert read_log(tmp_path / "job", own)[0] == b"printed"
    for name in (link, pipe):
        assert b"secret" not in read_log(tmp_path / "job", name)[0]
    assert own in {info.attempt for info in list_logs(tmp_path / "job")}
