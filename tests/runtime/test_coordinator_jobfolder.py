"""Job folders: made, described, kept while their process lives, pruned after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gristmill.errors import UsageError
from gristmill.runtime.files import jobfolder
from gristmill.runtime.files.jobfolder import JobFolder, dead_jobs, new_job_id, prune

NOW = 1_795_000_000.0
DAY = 86400.0


def make(data_dir: Path, age_days: float = 0.0, size: int = 0) -> Path:
    """The folder of a dead job, that old and about that large."""
    folder = JobFolder.create(data_dir, {"name": "Job"}, NOW - age_days * DAY)
    (folder.path / "blocks").mkdir()
    (folder.path / "blocks" / "block").write_bytes(b"x" * size)
    folder.update(state="failed")
    folder.release()
    os.utime(folder.path / "job.json", (NOW - age_days * DAY,) * 2)
    return folder.path


def test_ids_sort_by_time_and_differ() -> None:
    assert new_job_id(0.0).startswith("19700101-000000-")
    assert new_job_id(NOW) < new_job_id(NOW + 1)
    assert len({new_job_id(NOW) for _ in range(20)}) > 1


def test_facts_are_on_disk(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path, {"name": "WordCount", "inputs": ["a"]}, NOW)
    folder.update(state="succeeded")
    facts = json.loads((folder.path / "job.json").read_text())
    assert facts == dict(folder.facts)
    assert (facts["name"], facts["inputs"], facts["state"]) == ("WordCount", ["a"], "succeeded")
    assert (facts["pid"], facts["job"]) == (os.getpid(), folder.path.name)
    assert folder.path == tmp_path / "jobs" / folder.job
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_two_jobs_of_the_same_second_get_two_folders(tmp_path: Path) -> None:
    folders = [JobFolder.create(tmp_path, {}, NOW) for _ in range(30)]
    assert len({folder.path for folder in folders}) == 30
    for folder in folders:
        folder.remove()


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--data-dir"):
        JobFolder.create(tmp_path / "file", {}, NOW)


def test_prune_by_age(tmp_path: Path) -> None:
    old, young = make(tmp_path, age_days=8), make(tmp_path, age_days=6)
    assert prune(tmp_path, NOW) == (old.name,)
    assert not old.exists()
    assert young.exists()


def test_prune_by_size_takes_the_oldest_first(tmp_path: Path) -> None:
    oldest, middle, youngest = (make(tmp_path, age_days=age, size=100_000) for age in (3, 2, 1))
    assert prune(tmp_path, NOW, max_total_bytes=210_000) == (oldest.name,)
    assert prune(tmp_path, NOW, max_total_bytes=50_000) == (middle.name, youngest.name)


def test_prune_leaves_this_process_its_folders(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path, {}, NOW - 30 * DAY)
    os.utime(folder.path / "job.json", (NOW - 30 * DAY,) * 2)
    assert prune(tmp_path, NOW, max_total_bytes=0) == ()
    folder.update(state="failed")
    folder.release()
    assert prune(tmp_path, NOW, max_total_bytes=0) == (folder.path.name,)


def test_prune_goes_by_the_process_id_where_locks_say_nothing(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path, {}, NOW)
    folder.release()
    assert prune(tmp_path, NOW + 30 * DAY) == ()
    folder.update(pid_started=1.0)  # another process got the number
    assert prune(tmp_path, NOW + 3000 * DAY) == (folder.path.name,)


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_prune_knows_living_and_dead_processes(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from gristmill.runtime.files.jobfolder import JobFolder\n"
        f"folder = JobFolder.create(pathlib.Path({str(tmp_path)!r}), {{}}, 0.0)\n"
        "folder.update(host='elsewhere', pid=0)\n"
        "print(folder.job, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        job = process.stdout.readline().strip()
        assert prune(tmp_path, NOW * 2, max_total_bytes=0) == ()
        process.kill()
        process.wait(timeout=60)
        assert prune(tmp_path, NOW * 2, max_total_bytes=0) == (job,)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies")
def test_a_dead_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from gristmill.runtime.files.jobfolder import JobFolder\n"
        f"folder = JobFolder.create(pathlib.Path({str(tmp_path)!r}), {{}}, 0.0)\n"
        "folder.release(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert dead_jobs(tmp_path) == []
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now, and stays one
        assert len(dead_jobs(tmp_path)) == 1


def test_prune_leaves_a_folder_that_is_just_being_made(tmp_path: Path) -> None:
    (tmp_path / "jobs" / "new").mkdir(parents=True)
    os.utime(tmp_path / "jobs" / "new", (NOW, NOW))
    assert prune(tmp_path, NOW + 10, max_total_bytes=-1) == ()
    assert prune(tmp_path, NOW + 100, max_total_bytes=-1) == ("new",)


def test_prune_without_data_dir(tmp_path: Path) -> None:
    assert prune(tmp_path / "none", NOW) == ()


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_a_folder_that_is_taken_up_meanwhile_is_neither_adopted_nor_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look whether its process lives and what follows from that, another process may take it over."""
    path = make(tmp_path, age_days=30)
    folder = JobFolder.adopt(path)
    assert folder is not None
    folder.update(host="elsewhere", pid=0)
    os.utime(path / "job.json", (NOW - 30 * DAY,) * 2)
    monkeypatch.setattr(jobfolder, "_is_locked", lambda _: False)
    assert JobFolder.adopt(path) is None
    assert prune(tmp_path, NOW, max_total_bytes=0) == ()
    assert path.exists()
    folder.release()
    assert prune(tmp_path, NOW, max_total_bytes=0) == (path.name,)


def test_a_folder_without_facts_is_adopted_with_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "jobs" / "j1"
    path.mkdir(parents=True)
    assert JobFolder.adopt(path) is None
    folder = JobFolder.adopt(path, {"job": "j1"})
    assert folder is not None
    assert json.loads((path / "job.json").read_text())["state"] == "running"
    assert prune(tmp_path, NOW * 2, max_total_bytes=0) == ()
    folder.remove()


def test_an_id_is_not_used_again_when_its_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server notes jobs under their ids for good, and many short ones may come and go within a second."""
    ends = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(jobfolder, "new_job_id", lambda now: f"19700101-000000-{next(ends)}")
    first = JobFolder.create(tmp_path, {}, 0.0)
    first.remove()
    second = JobFolder.create(tmp_path, {}, 0.0)
    assert (first.job[-4:], second.job[-4:]) == ("aaaa", "bbbb")
    second.remove()
