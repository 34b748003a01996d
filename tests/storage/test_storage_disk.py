"""Full disks and records set aside."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.errors import DiskFull, FailureReport, Frame
from gristmill.storage.bad_records import BadRecords
from gristmill.storage.disk import translate_os_error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disks_are_named(number: int) -> None:
    with pytest.raises(DiskFull, match="/some/path") as caught, translate_os_error("/some/path"):
        raise OSError(number, "full")
    assert caught.value.report.source == "/some/path"
    assert caught.value.report.advice


def test_other_errors_pass() -> None:
    with pytest.raises(PermissionError), translate_os_error("/some/path"):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(OSError, match="plain"), translate_os_error("/some/path"):
        raise OSError("plain")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_that_is_full() -> None:
    path = Path("/dev/full")
    with pytest.raises(DiskFull, match="No space"), translate_os_error(path), path.open("wb", buffering=0) as file:
        file.write(b"x")


def test_bad_records_are_json_lines(tmp_path: Path) -> None:
    bad = BadRecords(tmp_path, "attempts/1-bad", "_bad_records/m0-00000.jsonl")
    assert bad.close() is None
    assert list(tmp_path.iterdir()) == []
    report = FailureReport(
        error="UserCodeError",
        message="ValueError: no number",
        frames=(Frame("job.py", 3, "mapper", "int(line)"), Frame("job.py", 7, "parse", "raise ValueError")),
        exception="ValueError",
        source="in.txt",
        offset=17,
        function="mapper",
    )
    bad.add(report, "text \udcff\n")
    bad.add(FailureReport(error="RecordTooLong", message="long"), "")
    part = bad.close()
    bad.discard()
    assert part is not None
    path = tmp_path / part.staged
    assert (part.final, part.rows, part.size_bytes) == ("_bad_records/m0-00000.jsonl", 2, path.stat().st_size)
    assert bad.count == 2
    one, two = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert one == {
        "file": "in.txt",
        "offset": 17,
        "function": "mapper",
        "error": "ValueError",
        "message": "ValueError: no number",
        "traceback": '  File "job.py", line 3, in mapper\n    int(line)\n'
        '  File "job.py", line 7, in parse\n    raise ValueError\n',
        "record": "text \udcff\n",
    }
    assert two["error"] == "RecordTooLong"


def test_bad_records_can_be_given_up(tmp_path: Path, limit_files: Callable[[int], None]) -> None:
    bad = BadRecords(tmp_path, "bad", "bad")
    bad.discard()
    bad.add(FailureReport(error="x", message="y"), "z")
    limit_files(10_000)
    with pytest.raises(DiskFull):
        for _ in range(10):  # more than is held before it is written
            bad.add(FailureReport(error="x", message="y"), "z" * 1_000_000)
    bad.discard()
    assert list(tmp_path.iterdir()) == []
