"""The key of a server, and what it signs."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gristmill.errors import PayloadAltered, UsageError
from gristmill.runtime.journal.facts import JobAccepted, JobRequested, from_row, to_rows
from gristmill.runtime.journal.signing import check_signature, read_key, signature_of
from gristmill.service.signing import SIGNING_KEY, signing_key

KEY = bytes(range(32))
BLOBS = {"code": b"c", "splits": b"s"}
SPEC = {"folder": "é\udc80"}
JOB = JobAccepted("j", "Job", 1.5, "", "boot", ((), (0,)), {"spec": SPEC, "cpus": 0.1}, deadline_seconds=3)
WISH = JobRequested("j", "Job", "ada", 1.5, {"inputs": ["x"]})


def signed(fact: JobAccepted | JobRequested, blobs: dict[str, bytes]) -> JobAccepted | JobRequested:
    return replace(fact, signature=signature_of(KEY, fact, blobs))


def test_the_key_is_drawn_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert read_key(tmp_path) == b""
    key = signing_key(tmp_path)
    assert len(key) == 32
    assert signing_key(tmp_path) == read_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / SIGNING_KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "xyz", "00" * 8])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SIGNING_KEY).write_text(text)
    with pytest.raises(UsageError, match="does not hold a signing key"):
        signing_key(tmp_path)


def test_what_was_signed_fits_after_it_was_written_and_read() -> None:
    for fact, blobs in ((JOB, BLOBS), (WISH, {"request/a": b"1"})):
        [row] = to_rows([signed(fact, blobs)])
        [again] = from_row(*row)
        assert isinstance(again, (JobAccepted, JobRequested))
        check_signature(KEY, again, blobs)
        check_signature(KEY, again, {**blobs, "of another": b"fact"})
        check_signature(b"", again, {})
        with pytest.raises(PayloadAltered, match="Job j is not run"):
            check_signature(KEY[::-1], again, blobs)


@pytest.mark.parametrize(
    "change",
    [
        {"job": "k"}, {"name": "x"}, {"at": 2.0}, {"key": "x"}, {"boot": "x"}, {"parents": ((),)}, {"user": "root"},
        {"prepared": {"spec": {"folder": "/"}, "cpus": 0.1}}, {"request": "x"}, {"deadline_seconds": None},
        {"queued": True}, {"signature": ""}, {"signature": "é"},
    ],
)  # fmt: skip
def test_nothing_that_was_accepted_can_be_altered(change: dict[str, object]) -> None:
    with pytest.raises(PayloadAltered):
        check_signature(KEY, replace(signed(JOB, BLOBS), **change), BLOBS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(BLOBS))
def test_no_blob_can_be_altered(name: str) -> None:
    fact = signed(JOB, BLOBS)
    for blobs in ({**BLOBS, name: b"x"}, {other: data for other, data in BLOBS.items() if other != name}):
        with pytest.raises(PayloadAltered):
            check_signature(KEY, fact, blobs)
    with pytest.raises(PayloadAltered):
        check_signature(KEY, fact, {"code": b"s", "splits": b"c"})


def test_a_request_is_no_accepted_job() -> None:
    fact = signed(WISH, {"request/a": b"1"})
    for blobs in ({"request/a": b"2"}, {}, {"request/b": b"1"}, {"request/a": b"1", "request/b": b""}):
        with pytest.raises(PayloadAltered):
            check_signature(KEY, fact, blobs)
