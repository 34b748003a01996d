"""Adding files to an output: all of them or none, whatever dies, and whoever reads."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_kit import Forker

from gristmill.errors import DiskFull, OutputNotWritable
from gristmill.storage import renames
from gristmill.storage.append import locked
from gristmill.storage.commit import OutputCommit, recover_output
from gristmill.storage.contracts import PartFile
from gristmill.storage.failpoints import APPEND_POINTS
from gristmill.storage.manifest import read_manifest
from gristmill.storage.staging import is_published
from gristmill.storage.writers import open_part


def stage(commit: OutputCommit, final: str, text: str) -> PartFile:
    writer = open_part(commit.staging, f"attempts/a-{final}", final, "text")
    writer.write([None], [text])
    return writer.close()


def run(output: Path, text: str, job: str, *, overwrite: bool = False, append: bool = True) -> None:
    commit = OutputCommit.prepare(output, job, overwrite, append=append)
    parts = [stage(commit, f"part-r-{n:05d}", text) for n in range(3)]
    stage(commit, "part-r-99999", "of an attempt that was not accepted")
    commit.commit(parts, {"job_id": job})


def content(output: Path) -> list[str]:
    """What the listed files hold: each job's text three times, or not at all. Each file has its size."""
    listed = read_manifest(output)
    assert listed is not None
    found: dict[str, int] = {}
    for file in listed:
        assert (output / file.name).stat().st_size == file.size_bytes
        text = (output / file.name).read_text().strip()
        found[text] = found.get(text, 0) + 1
    assert set(found.values()) <= {3}
    return list(found)


def files(output: Path) -> list[str]:
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


def litter(output: Path) -> list[str]:
    return [path.name for path in output.parent.iterdir() if path.name != output.name]


def test_files_are_added_beside_the_old_ones(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(output, "one", "j1", append=False)
    run(output, "two", "j2")
    run(output, "three", "j3")
    assert content(output) == ["one", "two", "three"]
    assert files(output) == sorted(
        ["_SUCCESS", *(f"part-r-0000{n}{end}" for n in range(3) for end in ("", "-j2", "-j3"))]
    )
    success = json.loads((output / "_SUCCESS").read_text())
    assert success["job_id"] == "j3"
    assert success["jobs"] == ["j1", "j2", "j3"]
    assert all(is_published(output, job) for job in ("j1", "j2", "j3"))
    assert not is_published(output, "j4")
    assert litter(output) == []


def test_the_first_append_makes_the_output(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    run(output, "one", "j1")
    run(output, "two", "j2")
    assert content(output) == ["one", "two"]
    run(output, "new", "j3", overwrite=True, append=False)
    assert content(output) == ["new"]


def test_an_output_that_came_up_meanwhile_is_added_to(tmp_path: Path) -> None:
    output = tmp_path / "out"
    commit = OutputCommit.prepare(output, "late", False, append=True)
    parts = [stage(commit, f"part-r-{n:05d}", "late") for n in range(3)]
    run(output, "first", "j1", append=False)
    commit.commit(parts, {})
    assert content(output) == ["first", "late"]


@pytest.mark.parametrize("success", [None, "", "{}", "not json"])
def test_files_of_another_engine_count_too(tmp_path: Path, success: str | None) -> None:
    output = tmp_path / "out"
    (output / "year=2024").mkdir(parents=True)
    (output / "year=2024" / "x.csv").write_text("theirs\n")
    (output / "_hidden").write_text("x")
    (output / ".crc").write_text("x")
    if success is not None:
        (output / "_SUCCESS").write_text(success)
    assert read_manifest(output) is None
    run(output, "ours", "j1")
    listed = read_manifest(output)
    assert listed is not None
    assert [(file.name, file.size_bytes, file.rows) for file in listed][:2] == [
        ("year=2024/x.csv", 7, None),
        ("part-r-00000-j1", 5, 1),
    ]


def test_parts_in_folders_and_bad_records_get_names_of_their_own(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for job in ("j1", "j2"):
        commit = OutputCommit.prepare(output, job, False, append=True)
        parts = [stage(commit, name, job) for name in ("y=1/z=2/part-r-00000.csv.gz", "_bad_records/r-00000.jsonl")]
        commit.commit(parts, {"job_id": job})
    assert files(output) == [
        "_SUCCESS",
        "_bad_records/r-00000-j1.jsonl",
        "_bad_records/r-00000-j2.jsonl",
        "y=1/z=2/part-r-00000-j1.csv.gz",
        "y=1/z=2/part-r-00000-j2.csv.gz",
    ]
    listed = read_manifest(output)
    assert listed is not None
    assert [file.name for file in listed] == [f"y=1/z=2/part-r-00000-{job}.csv.gz" for job in ("j1", "j2")]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    run(tmp_path / "real" / "out", "one", "j1")
    (tmp_path / "link").symlink_to("real/out")
    run(tmp_path / "link", "two", "j2")
    assert content(tmp_path / "real" / "out") == ["one", "two"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_not_a_folder_is_refused(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    if kind == "file":
        output.write_text("x")
    else:
        output.symlink_to("nowhere")
    with pytest.raises(OutputNotWritable, match="not a folder"):
        OutputCommit.prepare(output, "j1", False, append=True)
    assert litter(output) == []


def test_a_full_disk_takes_all_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    run(output, "one", "j1")
    before = files(output)
    commit = OutputCommit.prepare(output, "j2", False, append=True)
    parts = [stage(commit, f"y={n}/part-r-{n:05d}", "two") for n in range(3)]
    calls = []

    def full(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 6:  # three into final/, two into the output
            raise OSError(28, "No space left on device", str(target))
        source.rename(target)

    monkeypatch.setattr("gristmill.storage.append.rename_new", full)
    monkeypatch.setattr("gristmill.storage.commit.rename_new", full)
    with pytest.raises(DiskFull):
        commit.commit(parts, {"job_id": "j2"})
    monkeypatch.undo()
    assert files(output) == before
    assert not list(output.glob("y=*"))
    folder = tmp_path / "folder"
    folder.mkdir()
    commit.abort(folder / "staged")
    assert litter(output) == ["folder"]
    again = OutputCommit.adopt(output, "j2", False, parts, kept=folder / "staged", append=True)
    again.commit(parts, {"job_id": "j2"})
    assert content(output) == ["one", "two"]


def test_many_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out"
    commits = [OutputCommit.prepare(output, f"j{n}", False, append=True) for n in range(8)]
    staged = [
        [stage(commit, f"part-r-{n:05d}", f"t{number}") for n in range(3)] for number, commit in enumerate(commits)
    ]
    threads = [
        threading.Thread(target=commit.commit, args=(parts, {"job_id": f"j{number}"}))
        for number, (commit, parts) in enumerate(zip(commits, staged, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(content(output)) == [f"t{n}" for n in range(8)]
    assert litter(output) == []


def test_an_output_is_not_replaced_while_files_are_added(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(output, "one", "j1")
    commit = OutputCommit.prepare(output, "j2", True)
    parts = [stage(commit, f"part-r-{n:05d}", "new") for n in range(3)]
    thread = threading.Thread(target=commit.commit, args=(parts, {"job_id": "j2"}))
    with locked(output):
        thread.start()
        thread.join(0.3)
        assert content(output) == ["one"]
    thread.join()
    assert content(output) == ["new"]


# Crashes

SCRIPT = """
import sys
from pathlib import Path
from gristmill.storage.commit import OutputCommit
from gristmill.storage.writers import open_part
output = Path(sys.argv[1])
needed_by = Path(sys.argv[2]) if sys.argv[2:] else None
commit = OutputCommit.prepare(output, "crashed", False, needed_by, append=True)
parts = []
for n in range(3):
    writer = open_part(commit.staging, f"attempts/{n}", f"part-r-{n:05d}", "text")
    writer.write([None], ["new"])
    parts.append(writer.close())
commit.commit(parts, {"job_id": "crashed"})
"""
PARTS = [PartFile(f"attempts/{n}", f"part-r-{n:05d}", 1, 4) for n in range(3)]
POINTS = ("commit.begun", "commit.first-part-named", "commit.success-written", *APPEND_POINTS, "commit.published")


Crash = Callable[..., None]


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Lets a process die at a step."""
    with Forker(SCRIPT, "gristmill.storage.commit", "gristmill.storage.writers") as forker:

        def run_it(output: Path, point: str, needed_by: Path | None = None) -> None:
            assert forker.run(str(output), *([str(needed_by)] if needed_by else []), failpoint=point) == 137

        yield run_it


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_the_old_or_the_new_list_and_recovery_ends_what_had_begun(
    tmp_path: Path, point: str, crash: Crash
) -> None:
    output = tmp_path / "out"
    run(output, "old", "j1")
    crash(output, point)
    assert content(output) == (["old", "new"] if point == "commit.published" else ["old"])
    recover_output(output)
    begun = point.startswith("append") or point == "commit.published"
    assert content(output) == (["old", "new"] if begun else ["old"])
    assert len(files(output)) == (7 if begun else 4)
    run(output, "next", "j3")
    assert content(output) == (["old", "new", "next"] if begun else ["old", "next"])
    assert litter(output) == []


@pytest.mark.parametrize("point", POINTS)
def test_another_process_takes_over_from_a_crash(tmp_path: Path, point: str, crash: Crash) -> None:
    output, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    run(output, "old", "j1")
    crash(output, point, folder)
    run(output, "between", "j2")
    begun = point.startswith("append") or point == "commit.published"
    commit = OutputCommit.adopt(output, "crashed", False, PARTS, needed_by=folder, append=True)
    assert commit.published == begun
    if not begun:
        if not (commit.staging / PARTS[0].staged).exists():  # a newer output ends the older job's chances
            for part in PARTS:
                writer = open_part(commit.staging, part.staged, part.final, "text")
                writer.write([None], ["new"])
                writer.close()
    commit.commit(PARTS, {"job_id": "crashed"})
    assert sorted(content(output)) == ["between", "new", "old"]
    assert litter(output) == ["folder"]


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("point", APPEND_POINTS)
def test_what_was_replaced_meanwhile_is_not_half_added_to(
    tmp_path: Path, point: str, two_steps: bool, monkeypatch: pytest.MonkeyPatch, crash: Crash
) -> None:
    if two_steps:
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    output = tmp_path / "out"
    run(output, "old", "j1")
    # It looks for what was left before the crash, and replaces the output after it.
    commit = OutputCommit.prepare(output, "j2", True)
    parts = [stage(commit, f"part-r-{n:05d}", "other") for n in range(3)]
    crash(output, point)
    commit.commit(parts, {"job_id": "j2"})
    if point == "append.journalled":
        assert content(output) == ["other", "new"]  # nothing had been moved: all of it is added
    else:
        assert content(output) == ["other"]
        assert len(files(output)) == 4
    assert litter(output) == []


@pytest.mark.parametrize("point", APPEND_POINTS)
def test_an_output_that_was_removed_meanwhile_does_not_come_back_by_halves(
    tmp_path: Path, point: str, crash: Crash
) -> None:
    output = tmp_path / "out"
    run(output, "old", "j1")
    crash(output, point)
    for path in output.iterdir():
        path.unlink()
    output.rmdir()
    recover_output(output)
    assert list(tmp_path.iterdir()) == []
