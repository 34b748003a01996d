"""The files of an output as bytes, from an object store and from a disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gristmill.api.job import run_job
from gristmill.api.loading import load_builtin
from gristmill.api.output_parts import output_parts
from gristmill.config import JobOptions
from gristmill.errors import UsageError


def written(output: str, tmp_path: Path) -> str:
    """The id of a job that has counted words into a place."""
    (tmp_path / "in.txt").write_text("b a\nb\n")
    options = JobOptions(on="inline", reducers=1, data_dir=tmp_path / "data")
    return run_job(load_builtin("wordcount"), [str(tmp_path / "in.txt")], output, options).job_id


def test_an_output_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    place = f"s3://{bucket}/counts"
    job = written(place, tmp_path)
    parts = output_parts(place, job)
    assert b"".join(chunk for part in parts for chunk in part.chunks()) == b"a\t1\nb\t2\n"
    assert sum(part.size_bytes for part in parts) == 8


def test_an_output_of_others_is_not_ours(tmp_path: Path) -> None:
    place = str(tmp_path / "out")
    job = written(place, tmp_path)
    [part] = output_parts(place, job)
    assert b"".join(part.chunks()) == b"a\t1\nb\t2\n"
    with pytest.raises(UsageError, match="another job has written it"):
        output_parts(place, "20261120-132501-a3f9")
    with pytest.raises(UsageError, match="is gone"):
        output_parts(str(tmp_path / "nowhere"), job)


def test_links_out_of_an_output_lead_nowhere(tmp_path: Path) -> None:
    place = tmp_path / "out"
    job = written(str(place), tmp_path)
    [part] = output_parts(str(place), job)
    (place / part.name).unlink()
    (place / part.name).symlink_to(tmp_path / "in.txt")
    with pytest.raises(OSError, match="is not a file"):
        list(part.chunks())


def test_a_pipe_in_an_output_keeps_nobody_waiting(tmp_path: Path) -> None:
    place = tmp_path / "out"
    job = written(str(place), tmp_path)
    [part] = output_parts(str(place), job)
    (place / part.name).unlink()
    os.mkfifo(place / part.name)
    with pytest.raises(OSError, match="is not a file"):
        list(part.chunks())
