"""All or nothing: in order, out of order, and when the process dies at each step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Forker

import gristmill
from gristmill.errors import DiskFull, OutputExists, OutputNotWritable
from gristmill.storage import renames
from gristmill.storage.commit import OutputCommit, recover_output
from gristmill.storage.contracts import PartFile
from gristmill.storage.failpoints import FAIL_POINTS
from gristmill.storage.staging import _unlock, remove_tree
from gristmill.storage.writers import open_part


def stage(commit: OutputCommit, final: str, text: str) -> PartFile:
    writer = open_part(commit.staging, f"attempts/{final}-0", final, "text")
    writer.write([None], [text])
    return writer.close()


def run(output: Path, text: str, overwrite: bool = False, job: str = "job") -> None:
    commit = OutputCommit.prepare(output, job, overwrite)
    parts = [stage(commit, f"part-r-{n:05d}", f"{text} {n}") for n in range(3)]
    stage(commit, "part-r-99999", "of an attempt that was not accepted")
    commit.commit(parts, {"state": "done"})


def content(output: Path) -> str | None:
    """Which whole output is there; None if there is none. Fails on anything between."""
    if not os.path.lexists(output):
        return None
    success = json.loads((output / "_SUCCESS").read_text())
    names = sorted(path.name for path in output.iterdir() if path.name != "_SUCCESS")
    assert names == [file["name"] for file in success["files"]] == [f"part-r-{n:05d}" for n in range(3)]
    texts = [(output / name).read_text().split()[0] for name in names]
    assert len(set(texts)) == 1
    return texts[0]


def litter(output: Path) -> list[str]:
    return [path.name for path in output.parent.iterdir() if path.name != output.name]


@pytest.fixture(params=["exchange", "two steps"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to replace an output: the second one is for systems that have no exchange."""
    if request.param == "two steps":
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    return str(request.param)


def test_a_fresh_output(tmp_path: Path, swap: str) -> None:
    output = tmp_path / "deep" / "er" / "out"
    run(output, "new")
    assert content(output) == "new"
    assert litter(output) == []
    success = json.loads((output / "_SUCCESS").read_text())
    assert success["state"] == "done"
    assert success["files"][0] == {"name": "part-r-00000", "rows": 1, "bytes": 6}


def test_replacing_an_output(tmp_path: Path, swap: str) -> None:
    output = tmp_path / "out"
    run(output, "old")
    commit = OutputCommit.prepare(output, "job", overwrite=True)
    parts = [stage(commit, f"part-r-{n:05d}", "new") for n in range(3)]
    assert content(output) == "old"
    commit.commit(parts, {})
    assert content(output) == "new"
    assert litter(output) == []
    commit.abort()
    assert content(output) == "new"


def test_abort_leaves_nothing_behind(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "er" / "out"
    commit = OutputCommit.prepare(output, "job", overwrite=False)
    stage(commit, "part-r-00000", "x")
    commit.abort()
    commit.abort()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    OutputCommit.prepare(tmp_path / "kept" / "out", "job", overwrite=False).abort()
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling link"])
def test_an_output_that_exists(tmp_path: Path, kind: str, swap: str) -> None:
    output = tmp_path / "out"
    target = tmp_path / "target"
    if kind == "folder":
        output.mkdir()
    elif kind == "file":
        output.write_text("x")
    else:
        output.symlink_to("target")
        if kind == "link":
            target.mkdir()
            (target / "kept").write_text("x")
    with pytest.raises(OutputExists, match="--overwrite"):
        OutputCommit.prepare(output, "job", overwrite=False)
    run(output, "new", overwrite=True)
    assert content(output) == "new"
    assert not output.is_symlink()
    if kind == "link":
        assert (target / "kept").exists()


@pytest.mark.parametrize("kind", ["empty folder", "full folder", "file"])
def test_somebody_else_makes_the_output_in_the_meantime(tmp_path: Path, kind: str, swap: str) -> None:
    output = tmp_path / "out"
    commit = OutputCommit.prepare(output, "job", overwrite=False)
    part = stage(commit, "part-r-00000", "x")
    if kind == "file":
        output.write_text("theirs")
    else:
        output.mkdir()
        if kind == "full folder":
            (output / "theirs").write_text("theirs")
    before = [str(path) for path in output.rglob("*")]
    with pytest.raises(OutputExists):
        commit.commit([part], {})
    commit.abort()
    assert [str(path) for path in output.rglob("*")] == before
    assert litter(output) == []


def test_overwrite_of_what_is_not_there_or_came_late(tmp_path: Path, swap: str) -> None:
    run(tmp_path / "out", "new", overwrite=True)
    assert content(tmp_path / "out") == "new"
    output = tmp_path / "late"
    commit = OutputCommit.prepare(output, "job", overwrite=True)
    parts = [stage(commit, f"part-r-{n:05d}", "new") for n in range(3)]
    output.mkdir()
    commit.commit(parts, {})
    assert content(output) == "new"


def test_outputs_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        OutputCommit.prepare(tmp_path / "file" / "out", "job", overwrite=False)
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        OutputCommit.prepare(tmp_path / ("x" * 300), "job", overwrite=False)
    with pytest.raises(OutputNotWritable):
        OutputCommit.prepare(Path("/"), "job", overwrite=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(OutputNotWritable, match="is in it"):
        OutputCommit.prepare(tmp_path / "a", "job", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputNotWritable, match="Permission denied"):
        OutputCommit.prepare(tmp_path / "out", "job", overwrite=False)


def test_a_staged_file_that_is_gone(tmp_path: Path) -> None:
    commit = OutputCommit.prepare(tmp_path / "out", "job", overwrite=False)
    with pytest.raises(OutputNotWritable, match="cannot be completed"):
        commit.commit([PartFile("attempts/nothing", "part-r-00000", 1, 1)], {})
    commit.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_commit(tmp_path: Path, limit_files: Callable[[int], None]) -> None:
    commit = OutputCommit.prepare(tmp_path / "out", "job", overwrite=False)
    part = stage(commit, "part-r-00000", "x")
    limit_files(50)
    with pytest.raises(DiskFull, match="out"):
        commit.commit([part], {"much": "x" * 1000})
    commit.abort()
    assert list(tmp_path.iterdir()) == []


def test_parts_in_folders_and_parts_without_rows(tmp_path: Path) -> None:
    output = tmp_path / "out"
    commit = OutputCommit.prepare(output, "job", overwrite=False)
    parts = [stage(commit, "_bad_records/r-00000.jsonl", "bad")]
    for n, rows in enumerate([1, 0, 1]):
        writer = open_part(commit.staging, f"attempts/{n}", f"part-r-{n:05d}.parquet", "parquet")
        writer.write(["a"] * rows, [1] * rows)
        parts.append(writer.close())
    commit.commit(parts, {})
    names = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert names == ["_SUCCESS", "_bad_records/r-00000.jsonl", "part-r-00000.parquet", "part-r-00002.parquet"]


def test_living_jobs_of_the_same_output_and_others_outputs_are_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = OutputCommit.prepare(output, "one", overwrite=False)
    part = stage(first, "part-r-00000", "x")
    other = OutputCommit.prepare(tmp_path / "out.gristmill-b", "job", overwrite=False)
    recover_output(output)
    second = OutputCommit.prepare(output, "two", overwrite=False)
    assert first.staging.is_dir()
    assert other.staging.is_dir()
    second.abort()
    other.abort()
    first.commit([part], {})
    assert litter(output) == []


# Crashes: a process of its own dies at each step.

SCRIPT = """
import sys
from pathlib import Path
from gristmill.storage import renames
from gristmill.storage.commit import OutputCommit
from gristmill.storage.writers import open_part
output, overwrite, two_steps, abort = Path(sys.argv[1]), *(word == "True" for word in sys.argv[2:5])
needed_by = Path(sys.argv[5]) if sys.argv[5:] else None
if two_steps:
    renames._renameat2 = lambda: None
commit = OutputCommit.prepare(output, "crashed", overwrite, needed_by)
parts = []
for n in range(3):
    writer = open_part(commit.staging, f"attempts/{n}", f"part-r-{n:05d}", "text")
    writer.write([None], [f"new {n}"])
    parts.append(writer.close())
if abort:
    commit.abort()
else:
    commit.commit(parts, {"job_id": "crashed"})
"""


Crash = Callable[..., int]


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Lets a process die at a step; its exit code."""
    with Forker(SCRIPT, "gristmill.storage.commit", "gristmill.storage.writers") as forker:

        def run_it(output: Path, point: str, overwrite: bool, two_steps: bool, needed_by: Path | None = None) -> int:
            flags = [str(flag) for flag in (overwrite, two_steps, point.startswith("abort"))]
            return forker.run(str(output), *flags, *([str(needed_by)] if needed_by else []), failpoint=point)

        yield run_it


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("point", FAIL_POINTS)
def test_a_crash_leaves_the_old_or_the_whole_new_output(
    tmp_path: Path, point: str, overwrite: bool, two_steps: bool, crash: Crash
) -> None:
    if point.startswith("swap") and not (overwrite and two_steps):
        pytest.skip("this step is not taken here")
    output = tmp_path / "deep" / "out"
    if overwrite:
        run(output, "old")
    assert crash(output, point, overwrite, two_steps) == 137

    published = FAIL_POINTS.index(point) >= FAIL_POINTS.index("commit.published") and not point.startswith("abort")
    before = "new" if published else "old" if overwrite else None
    if point == "swap.old-moved":
        assert content(output) is None  # the one step at which there is none; the next run sees to it
        before = "new"
    else:
        assert content(output) == before
    recover_output(output)
    assert content(output) == before

    run(output, "next", overwrite=True)
    assert content(output) == "next"
    assert litter(output) == []


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("point", FAIL_POINTS)
def test_another_process_takes_over_from_a_crash(
    tmp_path: Path, point: str, overwrite: bool, two_steps: bool, monkeypatch: pytest.MonkeyPatch, crash: Crash
) -> None:
    if point.startswith("swap") and not (overwrite and two_steps):
        pytest.skip("this step is not taken here")
    if two_steps:
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    output, folder = tmp_path / "deep" / "out", tmp_path / "folder"
    folder.mkdir()
    if overwrite:
        run(output, "old")
    assert crash(output, point, overwrite, two_steps, folder) == 137
    recover_output(output)  # of another run that comes between: it leaves what is needed alone
    parts = [PartFile(f"attempts/{n}", f"part-r-{n:05d}", 1, 6) for n in range(3)]

    commit = OutputCommit.adopt(output, "crashed", overwrite, parts, needed_by=folder)
    staged = [(commit.staging / part.staged).exists() for part in parts]
    if commit.published:
        assert content(output) == "new"
    elif point.startswith(("prepare", "abort")):
        assert staged in ([False] * 3, [True] * 3)
        parts = [stage(commit, part.final, f"new {n}") for n, part in enumerate(parts)]
    else:
        assert staged == [True] * 3
        assert content(output) == ("old" if overwrite else None)
    commit.commit(parts, {"job_id": "crashed"})
    assert content(output) == "new"
    assert litter(output) == []


def test_what_is_kept_at_the_end_is_taken_up_again(tmp_path: Path) -> None:
    output, folder = tmp_path / "deep" / "out", tmp_path / "folder"
    folder.mkdir()
    commit = OutputCommit.prepare(output, "job", overwrite=False, needed_by=folder)
    part = stage(commit, "part-r-00000", "x")
    commit.abort(folder / "staged")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    again = OutputCommit.adopt(output, "job", False, [part], needed_by=folder, kept=folder / "staged")
    again.commit([part], {})
    assert (output / "part-r-00000").read_text() == "x\n"
    assert list(folder.iterdir()) == []


def test_an_output_that_somebody_made_meanwhile_is_not_taken_over(tmp_path: Path, crash: Crash) -> None:
    output = tmp_path / "out"
    assert crash(output, "commit.parts-named", False, False, tmp_path) == 137
    output.mkdir()
    with pytest.raises(OutputExists):
        OutputCommit.adopt(output, "crashed", False, [])
    commit = OutputCommit.adopt(output, "crashed", True, [])
    commit.abort()
    assert litter(output) == []


def test_what_nobody_can_take_up_any_more_is_litter(tmp_path: Path, crash: Crash) -> None:
    output, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    assert crash(output, "commit.begun", False, False, folder) == 137
    recover_output(output)
    assert len(litter(output)) == 2
    folder.rmdir()
    recover_output(output)
    assert litter(output) == []


def test_a_newer_output_ends_the_older_jobs_chances(tmp_path: Path, crash: Crash) -> None:
    output = tmp_path / "out"
    assert crash(output, "commit.begun", False, False, tmp_path) == 137
    run(output, "next")
    assert content(output) == "next"
    assert litter(output) == []


def test_a_removal_that_was_cut_short_is_taken_up(tmp_path: Path, crash: Crash) -> None:
    output = tmp_path / "out"
    assert crash(output, "commit.begun", False, False) == 137
    (staging,) = tmp_path.iterdir()
    (staging / "owner.json").unlink()
    recover_output(output)
    assert staging.is_dir()  # not empty and nobody's: not ours to remove
    for path in (*(staging / "attempts").iterdir(), staging / "attempts"):
        path.unlink() if path.is_file() else path.rmdir()
    recover_output(output)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_is_known_to_be_gone_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; from gristmill.storage.commit import OutputCommit\n"
        "OutputCommit.prepare(Path(sys.argv[1]), 'killed', False); print('ready', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(gristmill.__path__[0]).parent)}
    with subprocess.Popen([sys.executable, "-c", code, str(output)], env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        recover_output(output)
        assert len(list(tmp_path.iterdir())) == 1
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
    recover_output(output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="no exchange")
def test_an_output_that_was_replaced_is_never_taken_for_what_the_job_made(tmp_path: Path, crash: Crash) -> None:
    output, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    run(output, "old")
    assert crash(output, "commit.published", True, False, folder) == 137
    remove_tree(output)  # by whoever has used the new one already
    parts = [PartFile(f"attempts/{n}", f"part-r-{n:05d}", 1, 6) for n in range(3)]
    commit = OutputCommit.adopt(output, "crashed", True, parts, needed_by=folder)
    assert not commit.published
    assert not any((commit.staging / part.staged).exists() for part in parts)
    commit.abort()
    assert litter(output) == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="no exchange")
@pytest.mark.parametrize("ends", ["crash", "failure"])
def test_a_commit_that_ends_just_before_the_exchange_is_taken_up(
    tmp_path: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    run(output, "old")
    commit = OutputCommit.prepare(output, "job", True, needed_by=folder)
    parts = [stage(commit, f"part-r-{n:05d}", f"new {n}") for n in range(3)]

    def fail(*_: object) -> bool:
        raise OSError("no")

    monkeypatch.setattr("gristmill.storage.replacing.exchange", fail)
    with pytest.raises(OutputNotWritable):
        commit.commit(parts, {"job_id": "job"})
    monkeypatch.undo()
    assert content(output) == "old"
    if ends == "crash":
        commit._folder._lock = _unlock(commit._folder._lock)  # type: ignore[func-returns-value]
    else:
        commit.abort(folder / "staged")
    again = OutputCommit.adopt(output, "job", True, parts, needed_by=folder, kept=folder / "staged")
    assert all((again.staging / part.staged).exists() for part in parts)
    again.commit(parts, {"job_id": "job"})
    assert content(output) == "new"


def test_a_folder_whose_new_owner_was_killed_while_it_said_so_is_still_needed(tmp_path: Path, crash: Crash) -> None:
    output, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    assert crash(output, "commit.begun", False, False, folder) == 137
    [owner] = tmp_path.glob(".out.*/owner.json")
    owner.write_text(owner.read_text() + 'of what was longer"}\n')
    recover_output(output)
    assert owner.exists()
    folder.rmdir()
    recover_output(output)
    assert not owner.parent.exists()


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be opened there at all")
def test_an_output_in_a_folder_that_must_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in its place then: that the folder cannot be opened to be made durable must not be called a failure."""
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **others: Any) -> int:
        if Path(path) == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refuse)
    run(tmp_path / "out", "x")
    assert content(tmp_path / "out") == "x"
