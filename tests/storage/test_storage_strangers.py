"""Beside an output, where others may write: what they put there is neither followed, nor believed, nor waited for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gristmill.errors import OutputExists, OutputNotWritable
from gristmill.storage import manifest, replacing
from gristmill.storage.commit import OutputCommit, recover_output
from gristmill.storage.contracts import PartFile, is_part_name, is_written
from gristmill.storage.outputs import stranger_in
from gristmill.storage.staging import Staging, remove_dead
from gristmill.storage.writers import open_part

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
JOB = "20261121-101112-abcd"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    return victim


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared" / "out"


def part_of(commit: OutputCommit, final: str = "part-r-00000", format: str = "text") -> PartFile:
    writer = open_part(commit.staging, f"attempts/{final}-0", final, format)
    writer.write([None], ["a"])
    return writer.close()


def written(output: Path, mode: str = "error", job: str = JOB) -> None:
    commit = OutputCommit.prepare(output, job, mode == "overwrite", append=mode == "append")
    commit.commit([part_of(commit)], {"job_id": job})


@pytest.mark.parametrize("name", [".out.gristmill-x.99999999.new", ".out.gristmill-x"])
def test_a_link_is_not_followed(output: Path, victim: Path, name: str) -> None:
    (output.parent / name).symlink_to(victim)
    recover_output(output)
    remove_dead(output.parent / name)
    written(output)
    assert (victim / "precious").exists() and (output.parent / name).is_symlink()


def test_a_link_in_a_staging_folder_is_not_followed(output: Path, victim: Path) -> None:
    commit = OutputCommit.prepare(output, JOB, False)
    (commit.staging / "far").symlink_to(victim)
    (commit.staging / "attempts" / "far").symlink_to(victim)
    commit.abort()
    assert (victim / "precious").exists() and list(output.parent.iterdir()) == []


@pytest.mark.parametrize("begun", ["swap.json", "append.json"])
def test_what_another_user_has_made_is_not_believed(output: Path, begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if begun == "append.json":
        written(output)
    forged = output.parent / ".out.gristmill-zz"
    for folder in ("old", "final"):
        (forged / folder).mkdir(parents=True)
    (forged / "final" / "part-r-00009").write_text("forged\n")
    said = manifest.describe([PartFile("", "part-r-00009", 1, 7)], {"job_id": "zz"})
    (forged / "final" / "_SUCCESS").write_text(json.dumps(said))
    (forged / begun).write_text("{}")
    (forged / "owner.json").write_text(json.dumps({"output": "out", "job": "zz", "host": "", "pid": 1}))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    recover_output(output)
    remove_dead(forged)
    with pytest.raises(PermissionError):
        Staging.take_over(forged)
    assert (forged / "final" / "part-r-00009").exists() and (forged / begun).exists()
    if begun == "swap.json":
        assert not output.exists()
    else:
        assert not (output / "part-r-00009").exists()
    monkeypatch.undo()  # a run of one's own is completed
    recover_output(output)
    assert not forged.exists() and (output / "part-r-00009").exists()


def test_a_pipe_is_not_waited_for(output: Path) -> None:
    planted = output.parent / ".out.gristmill-x"
    planted.mkdir()
    os.mkfifo(planted / "owner.json")
    recover_output(output)
    commit = OutputCommit.prepare(output, JOB, False)
    first, second = (
        part_of(commit, "part-r-00000.parquet", "parquet"),
        part_of(commit, "part-r-00001.parquet", "parquet"),
    )
    (commit.staging / second.staged).unlink()
    os.mkfifo(commit.staging / second.staged)
    with pytest.raises(OutputNotWritable):
        commit.commit([first, second], {})
    commit.abort()
    output.mkdir()
    os.mkfifo(output / "_SUCCESS")
    with pytest.raises(OSError, match="no regular file"):
        manifest.load(output)


def test_a_list_of_files_has_an_end(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(output)
    monkeypatch.setattr(manifest, "MAX_BYTES", 10)
    with pytest.raises(OSError, match="more than 10 bytes"):
        manifest.load(output)


@pytest.mark.parametrize("staged", ["attempts/far/precious", "attempts/link"])
def test_only_what_attempts_have_written_is_moved(output: Path, victim: Path, staged: str) -> None:
    commit = OutputCommit.prepare(output, JOB, False)
    (commit.staging / "attempts" / "far").symlink_to(victim)
    (commit.staging / "attempts" / "link").symlink_to(victim / "precious")
    with pytest.raises(OutputNotWritable, match="no file that an attempt has written"):
        commit.commit([PartFile(staged, "part-r-00000", 1, 1)], {})
    commit.abort()
    assert (victim / "precious").exists() and not output.exists()


@pytest.mark.parametrize(
    "name",
    [
        "part-r-00000",
        "part-m-123456.csv.gz",
        f"part-r-00000-{JOB}-s0-t00000-a1.parquet",
        "year=2024/month=/part-r-00001.jsonl",
        "name=a%2Fb ü\xa0/part-r-00001",
        "_bad_records/r1-00000.jsonl",
        f"_bad_records/m0-00000-{JOB}-s0-t00000-a1-bad.jsonl",
    ],
)
def test_names_of_parts(name: str) -> None:
    assert is_part_name(name)
    assert is_written(PartFile(f"attempts/x-{name}", name, 1, 1)) and is_written(PartFile(name, name, 1, 1))


@pytest.mark.parametrize(
    "name",
    ["", "tokens.json", "_SUCCESS", "part-r-0", "jobs/part-r-00000", "../part-r-00000", "a=/../part-r-00000",
     "/a=b/part-r-00000", "part-r-00000/x", "part-r-00000\n",
     "_bad_records/tokens.json", "_bad_records/../r1-00000.jsonl"],
)  # fmt: skip
def test_no_names_of_parts(name: str) -> None:
    assert not is_part_name(name)
    assert not is_written(PartFile("attempts/x", name, 1, 1))
    assert not is_written(PartFile("owner.json", "part-r-00000", 1, 1))


def test_what_no_job_has_written_is_seen(output: Path) -> None:
    assert stranger_in(str(output)) == ""
    output.mkdir()
    assert stranger_in(str(output)) == "", "an empty folder"
    (output / "thesis.txt").write_text("x")
    assert stranger_in(str(output)) == "thesis.txt"
    written(output, "append")
    assert "1 files" in stranger_in(str(output)), "they are listed now, but no job has written them"
    written(output, "append", "20261121-101112-abce")
    assert "1 files" in stranger_in(str(output))
    written(output, "overwrite")
    assert stranger_in(str(output)) == ""
    written(output, "append", "20261121-101112-abcf")
    assert stranger_in(str(output)) == ""
    (output / ".profile").write_text("x")
    assert stranger_in(str(output)) == ".profile"
    link = output.with_name("link")
    link.symlink_to(output)
    assert stranger_in(str(link)) == "", "the link alone would be replaced"


def plant(output: Path, name: str) -> None:
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    (output / name).write_text("mine")


@pytest.mark.parametrize("name", ["notes.txt", "sub/notes.txt"])
@pytest.mark.parametrize("before", [True, False], ids=["an output", "nothing"])
def test_what_came_while_a_job_ran_is_not_replaced(output: Path, before: bool, name: str) -> None:
    if before:
        written(output)
    commit = OutputCommit.prepare(output, "second", True)
    part = part_of(commit)
    plant(output, name)
    with pytest.raises(OutputExists, match=r"(notes.txt|sub).*has come there since the job began"):
        commit.commit([part], {"job_id": "second"})
    assert (output / name).read_text() == "mine"
    assert (output / "part-r-00000").exists() == before
    kept = output.parent / "kept"
    commit.abort(kept)  # it is tried again: the first time in vain, then it has gone
    commit = OutputCommit.adopt(output, "second", True, [part], kept=kept)
    with pytest.raises(OutputExists):
        commit.commit([part], {"job_id": "second"})
    commit.abort(kept)
    (output / name).unlink()
    if name != "notes.txt":
        (output / name).parent.rmdir()
    commit = OutputCommit.adopt(output, "second", True, [part], kept=kept)
    commit.commit([part], {"job_id": "second"})
    assert manifest.load(output).content["job_id"] == "second"  # type: ignore[union-attr]
    assert sorted(path.name for path in output.parent.iterdir()) == ["out"]


def test_among_the_files_of_an_output_a_strangers_is_seen(output: Path) -> None:
    commit = OutputCommit.prepare(output, JOB, False)
    commit.commit([part_of(commit, "year=2024/part-r-00000")], {"job_id": JOB})
    assert stranger_in(str(output)) == ""
    plant(output, "year=2024/notes.txt")
    assert stranger_in(str(output)) == "year=2024/notes.txt"


def test_what_comes_at_the_last_moment_is_given_back(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(output)
    commit = OutputCommit.prepare(output, "second", True)
    part = part_of(commit)

    def come(point: str) -> None:
        if point == "replace.exchanged":  # after the look, into the old folder
            plant(next(output.parent.glob(".out.*/ready")), "notes.txt")

    monkeypatch.setattr(replacing, "failpoint", come)
    with pytest.raises(OutputExists):
        commit.commit([part], {"job_id": "second"})
    assert (output / "notes.txt").read_text() == "mine"
    assert manifest.load(output).content["job_id"] == JOB  # type: ignore[union-attr]


def test_another_jobs_output_is_replaced_and_so_is_what_was_there_from_the_beginning(output: Path) -> None:
    written(output)
    commit = OutputCommit.prepare(output, "second", True)
    part = part_of(commit)
    written(output, "overwrite", "between")
    commit.commit([part], {"job_id": "second"})
    plant(output, "notes.txt")
    commit = OutputCommit.prepare(output, "third", True)
    plant(output, "more.txt")
    commit.commit([part_of(commit)], {"job_id": "third"})
    assert sorted(path.name for path in output.iterdir()) == ["_SUCCESS", "part-r-00000"]
