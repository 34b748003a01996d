"""Outputs on an object store, by a real server of the S3 protocol."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from crash_kit import Forker
from pyarrow import fs as pafs

from gristmill.errors import FailureReport, OutputExists, OutputNotWritable, OutputUnreachable
from gristmill.storage import outputs
from gristmill.storage.bad_records import BadRecords
from gristmill.storage.contracts import PartFile
from gristmill.storage.failpoints import OBJECT_POINTS
from gristmill.storage.filesystems import open_filesystem
from gristmill.storage.manifest import read_manifest
from gristmill.storage.outputs import Output, adopt_output, left_output, open_output
from gristmill.storage.targets import has_part, remove_part
from gristmill.storage.writers.options import WriteOptions
from gristmill.storage.writers.parts import open_parts

JOB = "20260102-030405-ab12"


@pytest.fixture
def place(bucket: str) -> str:
    """An output in a bucket of its own."""
    return f"s3://{bucket}/deep/out"


def objects(place: str) -> dict[str, bytes]:
    """All that is below a place."""
    store, path = open_filesystem(place)
    found = store.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    files = sorted(info.path for info in found if info.type == pafs.FileType.File)
    return {name.removeprefix(f"{path}/"): store.open_input_stream(name).read() for name in files}


def put(place: str, name: str, data: bytes = b"x\n") -> None:
    store, path = open_filesystem(place)
    with store.open_output_stream(f"{path}/{name}") as stream:
        stream.write(data)


def stage(output: Output, text: str, attempt: int = 1, tasks: int = 3, job: str = JOB) -> list[PartFile]:
    found: list[PartFile] = []
    for task in range(tasks):
        name = f"{job}-s1-t{task:05d}-a{attempt}"
        parts = open_parts(output.staged_at, name, task, "r", "text", WriteOptions().to_pairs())
        parts.write([None], [text])
        found += parts.close()
    return found


def run(place: str, text: str, mode: str = "error", job: str = JOB) -> None:
    output = open_output(place, job, mode)
    stage(output, "of another attempt", 1, job=job)
    output.commit(stage(output, text, 2, job=job), {"job_id": job, "state": "done"})


def content(place: str) -> list[str] | None:
    """What the listed files hold; None without a list."""
    listed = read_manifest(place)
    if listed is None:
        return None
    there = objects(place)
    assert all(len(there[file.name]) == file.size_bytes for file in listed)
    return [there[file.name].decode().strip() for file in listed]


def test_an_output_is_what_its_list_says(place: str) -> None:
    assert read_manifest(place) is None
    run(place, "new")
    assert content(place) == ["new"] * 3
    assert list(objects(place)) == ["_SUCCESS", *(f"part-r-0000{n}-{JOB}-s1-t0000{n}-a2" for n in range(3))]
    success = json.loads(objects(place)["_SUCCESS"])
    assert success["state"] == "done"
    assert success["files"][0] == {"name": f"part-r-00000-{JOB}-s1-t00000-a2", "rows": 1, "bytes": 4}
    assert outputs.is_published(place, JOB)
    assert not outputs.is_published(place, "other")
    assert outputs.state_of(place) == f"by {JOB}"


def test_nothing_counts_before_the_commit(place: str) -> None:
    output = open_output(place, JOB)
    parts = stage(output, "x")
    assert content(place) is None
    assert has_part(output.staged_at, parts[0])
    remove_part(output.staged_at, parts[0])
    remove_part(output.staged_at, parts[0])
    assert not has_part(output.staged_at, parts[0])
    output.abort()
    output.abort()
    assert objects(place) == {}
    assert outputs.state_of(place) == ""


def test_an_output_that_exists(place: str) -> None:
    run(place, "old")
    with pytest.raises(OutputExists, match="--overwrite"):
        open_output(place, "j2")
    assert content(place) == ["old"] * 3


def test_files_without_a_list_are_an_output_too(place: str) -> None:
    put(place, "year=2024/theirs.csv")
    with pytest.raises(OutputExists):
        open_output(place, "j2")
    run(place, "ours", "append")
    assert content(place) == ["x", "ours", "ours", "ours"]


def test_replacing(place: str) -> None:
    put(place, "theirs.csv")
    run(place, "one", "overwrite", "j1")
    assert content(place) == ["one"] * 3
    output = open_output(place, "j2", "overwrite")
    parts = stage(output, "two", job="j2")
    assert content(place) == ["one"] * 3
    output.commit(parts, {})
    assert content(place) == ["two"] * 3
    assert len(objects(place)) == 4


def test_adding(place: str) -> None:
    for number in range(3):
        run(place, f"t{number}", "append", f"j{number}")
    assert content(place) == ["t0"] * 3 + ["t1"] * 3 + ["t2"] * 3
    assert len(objects(place)) == 10
    assert all(outputs.is_published(place, f"j{number}") for number in range(3))
    run(place, "new", "overwrite", "j4")
    assert content(place) == ["new"] * 3
    assert len(objects(place)) == 4


def test_somebody_else_makes_the_output_in_the_meantime(place: str) -> None:
    first, second = open_output(place, "j1"), open_output(place, "j2")
    staged = stage(first, "one", job="j1"), stage(second, "two", job="j2")
    first.commit(staged[0], {})
    with pytest.raises(OutputExists):
        second.commit(staged[1], {})
    second.abort()
    assert content(place) == ["one"] * 3
    assert len(objects(place)) == 4


def test_a_file_that_is_gone_ends_the_commit(place: str) -> None:
    output = open_output(place, JOB)
    parts = stage(output, "x")
    remove_part(output.staged_at, parts[1])
    with pytest.raises(OutputNotWritable, match="is not there"):
        output.commit(parts, {})
    output.abort()
    assert objects(place) == {}


def test_folders_and_large_files(place: str) -> None:
    output = open_output(place, JOB)
    options = WriteOptions.of("csv", partition_by="k").to_pairs()
    parts = open_parts(output.staged_at, f"{JOB}-s1-t00003-a1", 3, "r", "csv", options)
    parts.write([None] * 20, [{"k": n % 7, "v": str(n) * 400_000} for n in range(20)])
    files = parts.close()
    output.commit(files, {})
    listed = read_manifest(place)
    assert listed is not None
    assert sorted(file.name for file in listed) == [f"k={n}/part-r-00003-{JOB}-s1-t00003-a1.csv" for n in range(7)]
    assert sum(file.rows or 0 for file in listed) == 20
    assert {file.name: file.size_bytes for file in listed} == {
        name: len(data) for name, data in objects(place).items() if name.startswith("k=")
    }


@pytest.mark.parametrize("options", [{}, {"partition_by": "k"}, {"target_size": 1}])
def test_what_is_discarded_does_not_stay(place: str, options: dict[str, str]) -> None:
    output = open_output(place, JOB)
    parts = open_parts(output.staged_at, f"{JOB}-a1", 0, "r", "csv", WriteOptions.of("csv", **options).to_pairs())  # type: ignore[arg-type]
    parts.write([None] * 600, [{"k": n % 7, "v": n} for n in range(600)])
    parts.discard()
    parts.discard()
    assert list(objects(place)) == [f"_gristmill-{JOB}.json"]


def test_a_bucket_that_is_not_there(place: str) -> None:
    bad = "s3://no-such-bucket/out"
    with pytest.raises(OutputNotWritable, match="NO_SUCH_BUCKET"):
        open_output(bad, JOB)
    with pytest.raises(OutputUnreachable, match="s3://no-such-bucket/out/part-r-00000"):
        open_parts(f"{bad}#{JOB}", f"{JOB}-a1", 0, "r", "csv")


def test_no_secret_is_shown(place: str) -> None:
    bad = place.replace("s3://b", "s3://me:terrible-secret@no-such-b")
    with pytest.raises(OutputNotWritable) as caught:
        open_output(bad, JOB)
    assert "terrible-secret" not in str(caught.value)


def test_all_files_have_one_schema(place: str) -> None:
    output = open_output(place, JOB)
    files: list[PartFile] = []
    for number, value in enumerate([None, 1, 2.5]):
        attempt = f"{JOB}-s1-t{number:05d}-a1"
        parts = open_parts(output.staged_at, attempt, number, "r", "parquet", WriteOptions().to_pairs())
        parts.write([None], [{"a": value}])
        files += parts.close()
    output.commit(files, {})
    there = objects(place)
    listed = read_manifest(place)
    assert listed is not None
    assert set(there) == {"_SUCCESS", *(file.name for file in listed)}
    tables = [pq.read_table(io.BytesIO(there[file.name])) for file in listed]
    assert [table.to_pydict() for table in tables] == [{"a": [None]}, {"a": [1.0]}, {"a": [2.5]}]
    assert {str(table.schema) for table in tables} == {"a: double"}
    assert all(len(there[file.name]) == file.size_bytes for file in listed)


def test_bad_records(place: str) -> None:
    output = open_output(place, JOB)
    bad = BadRecords(output.staged_at, f"attempts/{JOB}-s0-t00000-a1-bad.jsonl", "_bad_records/m0-00000.jsonl")
    bad.add(FailureReport("UserCodeError", "no"), "the record")
    other = BadRecords(output.staged_at, f"attempts/{JOB}-s0-t00000-a2-bad.jsonl", "_bad_records/m0-00000.jsonl")
    other.add(FailureReport("UserCodeError", "no"), "the record")
    other.discard()
    part = bad.close()
    assert part is not None
    output.commit([*stage(output, "x"), part], {})
    assert content(place) == ["x"] * 3
    [name] = [name for name in objects(place) if name.startswith("_bad")]
    assert name == f"_bad_records/m0-00000-{JOB}-s0-t00000-a1-bad.jsonl"
    assert json.loads(objects(place)[name])["record"] == "the record"


# Crashes

SCRIPT = """
import sys
from pathlib import Path
from gristmill.storage.outputs import open_output
from gristmill.storage.writers.parts import open_parts
place, mode, needed_by = sys.argv[1:4]
output = open_output(place, "crashed", mode, Path(needed_by) if needed_by else None)
parts = []
for task in range(3):
    part = open_parts(output.staged_at, f"crashed-s1-t{task:05d}-a1", task, "r", "text")
    part.write([None], ["new"])
    parts += part.close()
if sys.argv[4] == "abort":
    output.abort()
else:
    output.commit(parts, {"job_id": "crashed"})
"""
_EACH_MODE = ("objects.checked", "objects.published")
PARTS = [PartFile(name, name, 1, 4) for name in (f"part-r-{n:05d}-crashed-s1-t{n:05d}-a1" for n in range(3))]


CRASHES = [
    pytest.param(point, mode, marks=() if mode == "append" or point in _EACH_MODE else pytest.mark.soak)
    for point in OBJECT_POINTS
    for mode in outputs.MODES
]


Crash = Callable[..., None]


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Lets a process die at a step."""
    with Forker(SCRIPT, "gristmill.storage.outputs", "gristmill.storage.writers.parts") as forker:

        def run_it(place: str, point: str, mode: str, needed_by: Path | None = None) -> None:
            ends = "abort" if "abort" in point else "commit"
            assert forker.run(place, mode, str(needed_by or ""), ends, failpoint=point) == 137

        yield run_it


def expected(mode: str, *, published: bool) -> list[str] | None:
    before = [] if mode == "error" else ["old"] * 3
    if not published:
        return before or None
    return ["new"] * 3 if mode != "append" else before + ["new"] * 3


@pytest.mark.parametrize(("point", "mode"), CRASHES)
def test_a_crash_leaves_the_old_or_the_whole_new_output(place: str, point: str, mode: str, crash: Crash) -> None:
    if mode != "error":
        run(place, "old")
    crash(place, point, mode)
    published = point in ("objects.published", "objects.cleaned")
    assert content(place) == expected(mode, published=published)
    run(place, "next", "append" if published or mode == "append" else mode, "j3")
    assert (
        content(place)
        == [*(expected(mode, published=published) or []), *["next"] * 3][
            -3 if mode == "overwrite" and not published else 0 :
        ]
    )
    listed = read_manifest(place)
    assert listed is not None
    if mode != "overwrite" or not published:
        assert set(objects(place)) == {"_SUCCESS", *(file.name for file in listed)}


@pytest.mark.parametrize(("point", "mode"), CRASHES)
def test_another_process_takes_over_from_a_crash(
    place: str, point: str, mode: str, tmp_path: Path, crash: Crash
) -> None:
    if mode != "error":
        run(place, "old")
    crash(place, point, mode, tmp_path)
    open_output(place, "j2", "append").abort()  # of another run that comes between: it leaves what is needed alone
    output = adopt_output(place, "crashed", mode, PARTS, needed_by=tmp_path)
    assert output.published == (point in ("objects.published", "objects.cleaned"))
    there = [has_part(output.staged_at, part) for part in PARTS]
    assert there == [point != "objects.prepared"] * 3
    if not all(there):
        assert stage(output, "new", job="crashed") == PARTS
    output.commit(PARTS, {"job_id": "crashed"})
    assert content(place) == expected(mode, published=True)
    listed = read_manifest(place)
    assert listed is not None
    assert set(objects(place)) == {"_SUCCESS", *(file.name for file in listed)}


def test_what_nobody_will_take_up_is_deleted(place: str, tmp_path: Path, crash: Crash) -> None:
    crash(place, "objects.commit-begun", "error", tmp_path)
    left_output(place, "crashed").abort()
    assert objects(place) == {}
    crash(place, "objects.commit-begun", "error", tmp_path)
    outputs.remove_dead(f"{place}#crashed")
    assert objects(place) == {}
    crash(place, "objects.published", "error", tmp_path)
    outputs.remove_dead(f"{place}#crashed")
    assert content(place) == ["new"] * 3
    living = open_output(f"{place}2", JOB)
    outputs.remove_dead(living.staged_at)
    assert len(objects(f"{place}2")) == 1
