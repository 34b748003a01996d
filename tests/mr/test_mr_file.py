"""The file between the two commands, its locks, and the job that it describes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gristmill.api.mr_file import MrFacts, find_coordinator, lock_folder, outlast_workers
from gristmill.errors import ServerUnreachable

HOLD = """
import sys
from pathlib import Path
from gristmill.api.mr_file import find_coordinator

find_coordinator(Path(sys.argv[1]), 5.0, lambda facts: True)
print("holds", flush=True)
sys.stdin.read()
"""


def facts(**changed: object) -> MrFacts:
    values: dict[str, object] = {
        "url": "http://127.0.0.1:1",
        "token": "t",
        "base": "/data",
        "inputs": ("a", "b"),
        "reducers": 3,
        "task_timeout_seconds": 10.0,
        "output": "/data/out",
        "pid": 1,
    }
    return MrFacts(**{**values, **changed})  # type: ignore[arg-type]


def test_the_file_is_for_its_owner_alone_and_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    before = os.umask(0)
    try:
        facts().write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert find_coordinator(path, 0.0, lambda _: True) == facts()


def test_a_worker_waits_for_a_coordinator_that_answers(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    facts(url="http://old").write(path)
    asked: list[str] = []

    def answers(found: MrFacts) -> bool:
        asked.append(found.url)
        if found.url == "http://old":
            facts(url="http://new").write(path)
        return found.url == "http://new"

    assert find_coordinator(path, 5.0, answers).url == "http://new"
    assert asked == ["http://old", "http://new"]
    with pytest.raises(ServerUnreachable, match=r"Nobody answers at http://new, which .* names \(process 1\)"):
        find_coordinator(path, 0.0, lambda _: False)


def test_the_coordinator_outlasts_the_workers_that_hold_its_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    facts().write(path)
    worker = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None and worker.stdout is not None
    with worker:
        assert worker.stdout.readline() == b"holds\n"
        assert not outlast_workers(path, 0.1)
        ended = threading.Event()
        waiter = threading.Thread(target=lambda: outlast_workers(path, 30.0) and ended.set())
        waiter.start()
        assert not ended.wait(0.1)
        worker.kill()  # its lock goes with it
        waiter.join(30.0)
        assert ended.is_set()
    with pytest.raises(ServerUnreachable):  # who comes now is too late
        find_coordinator(path, 0.1, lambda _: True)


def test_a_folder_has_one_coordinator(tmp_path: Path) -> None:
    folder = tmp_path / "hidden"
    first = lock_folder(folder)
    assert first is not None
    assert lock_folder(folder) is None
    (folder / "lock").unlink()
    folder.rmdir()
    os.close(first)
    second = lock_folder(folder)
    assert second is not None
    os.close(second)


def test_each_file_is_a_task_that_is_not_done_twice_for_speed() -> None:
    options = facts().options
    assert (options.input_format, options.split_bytes, options.reducers) == ("whole", 1, 3)
    assert options.task_timeout_seconds == 10.0
    assert options.deaths_expected and not options.speculation
