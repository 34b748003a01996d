"""The logs that a server keeps: in pieces, bounded, to be followed by offset while they grow."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gristmill.runtime.files.joblogs import LogInfo, LogKeeper, list_logs, logs_below, read_log

NAME = "j-s0-t00000-a1"


def read_all(folder: Path, attempt: str = NAME, limit: int = 1000) -> bytes:
    """A log, as somebody reads it who follows it."""
    found, at = b"", 0
    while True:
        data, then = read_log(folder, attempt, at, limit)
        found += data
        if then == at:
            return found
        at = then


def test_parts_are_put_together(tmp_path: Path) -> None:
    keeper = LogKeeper()
    keeper.keep(str(tmp_path), NAME, b"one\n", 0, last=False)
    keeper.keep(str(tmp_path), NAME, b"two\n", 4, last=False)
    keeper.settle(60)
    assert read_log(tmp_path, NAME) == (b"one\ntwo\n", 8)
    keeper.keep(str(tmp_path), NAME, b"two\nthree\n", 4)  # what was sent twice counts once
    keeper.close()
    assert read_log(tmp_path, NAME, 8) == (b"three\n", 14)
    assert read_log(tmp_path, NAME, 14) == (b"", 14)
    assert list_logs(tmp_path) == [LogInfo(NAME, 14, 14)]


def test_what_is_missing_between_is_named(tmp_path: Path) -> None:
    keeper = LogKeeper()
    keeper.keep(str(tmp_path), NAME, b"one\n", 0, last=False)
    keeper.keep(str(tmp_path), NAME, b"last\n", 1000)
    keeper.keep(str(tmp_path), "j-s0-t00001-a1", b"end\n", 70)
    keeper.close()
    assert read_all(tmp_path) == b"one\n\n[996 bytes are left out]\nlast\n"
    assert read_log(tmp_path, NAME, 500) == (b"\n[500 bytes are left out]\nlast\n", 1005)
    assert read_all(tmp_path, "j-s0-t00001-a1") == b"[the first 70 bytes are left out]\nend\n"
    assert [name for name, _ in logs_below(tmp_path)] == [NAME, "j-s0-t00001-a1"]


def test_another_keeper_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    first = LogKeeper()
    first.keep(str(tmp_path), NAME, b"before\n", 0, last=False)
    first.settle(60)
    second = LogKeeper()
    second.keep(str(tmp_path), NAME, b"fore\nafter\n", 2)
    for keeper in (first, second):
        keeper.close()
    assert read_all(tmp_path) == b"before\nafter\n"


@pytest.mark.parametrize("seed", range(3))
def test_of_a_long_log_the_first_half_and_the_last_stay(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    printed = b"".join(b"line %d\n" % number for number in range(4000))
    keeper = LogKeeper(max_attempt_bytes=4096)
    at = 0
    while at < len(printed):
        size = chance.randrange(1, 700)
        keeper.keep(str(tmp_path), NAME, printed[at : at + size], at, last=at + size >= len(printed))
        at += size
    keeper.close()
    [info] = list_logs(tmp_path)
    assert info.end == len(printed)
    assert 3000 <= info.kept_bytes <= 4096
    text = read_all(tmp_path, limit=chance.randrange(1, 500))
    head, note, tail = text.partition(b"\n[")
    missing, _, tail = tail.partition(b" bytes are left out]\n")
    assert note and printed.startswith(head) and printed.endswith(tail)
    assert min(len(head), len(tail)) >= 1500
    assert len(head) + int(missing) + len(tail) == len(printed)


def test_a_name_that_is_none_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "secret-s0-t1-a1.log").write_text("secret")
    for name in ("../secret-s0-t1-a1", "", "/etc/passwd", "nobody-s0-t1-a1", "executor-7", "j-s0-t1-a1\0"):
        assert read_log(tmp_path, name) == (b"", 0)


def test_many_attempts_share_what_a_job_may_have(tmp_path: Path) -> None:
    keeper = LogKeeper(max_job_bytes=5000, max_attempt_bytes=1000)
    for number in range(10):
        for at in range(0, 3000, 100):
            keeper.keep(str(tmp_path), f"j-s0-t{number:05d}-a1", b"x" * 100, at, last=False)
    keeper.close()
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) <= 5000
    assert len(list_logs(tmp_path)) >= 5
