"""Where tasks of a cluster run, and whose: near what they read, by priority, and no more at once than fit."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import WordCount, counts_in
from cluster_kit import Cluster, cluster

from gristmill.runtime.contracts import JobAdmitted, SlotUp


class Noted(WordCount):
    """Notes which worker ran what, and waits until so many map tasks have begun."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        if not hasattr(self, "noted"):
            self.noted = self.note("map", line)
        yield from super().mapper(_, line)

    def note(self, kind: str, what: str) -> bool:
        folder, here = Path(self.params["folder"]), os.environ["PLACE"]
        (folder / f"{kind}.{here}.{what}.{time.monotonic_ns()}").touch()
        deadline = time.monotonic() + 60
        while len(list(folder.glob("map.*"))) < self.params.get("begun", 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        return True

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        self.note("reduce", word)
        yield from super().reducer(word, counts)


class ByWord(Noted):
    """Each word is the number of its partition."""

    def partitioner(self, key: str, partitions: int) -> int:
        return int(key) % partitions


class Crowd(WordCount):
    """Notes how many tasks run at once, and waits a while for others."""

    def mapper_init(self) -> None:
        folder = Path(self.params["folder"])
        self.mine = folder / f"now.{os.getpid()}"
        self.mine.touch()
        deadline = time.monotonic() + self.params["seconds"]
        while (at_once := len(list(folder.glob("now.*")))) < 2 and time.monotonic() < deadline:
            if any(folder.glob("at-once.[!1].*")):
                break  # that there may be several is seen already
            time.sleep(0.01)
        (folder / f"at-once.{at_once}.{time.monotonic_ns()}").touch()

    def mapper_final(self) -> None:
        self.mine.unlink()


class TwoCpus(Crowd):
    """Two of these do not fit beside each other on three CPUs."""

    task_cpus = 2


class MuchMemory(Crowd):
    """Two of these do not fit beside each other in 512 MiB."""

    task_memory = "300MiB"


def write_files(folder: Path, host: str, words: list[str]) -> list[str]:
    """A file for each word, near a host. Its lines are the word alone."""
    names = []
    for number, word in enumerate(words):
        path = folder / f"{host}-{number}.txt"
        path.write_text(f"{word}\n" * 50)
        names.append(f"file://{host}{path}")
    return names


def add_places(c: Cluster, executors: int, *names: str, racks: Mapping[str, str] | None = None) -> None:
    """Workers of these names, ready."""
    for name in names:
        c.add_worker("--name", name, "--rack", (racks or {}).get(name, ""), executors=executors, PLACE=name)
    c.wait_until(lambda: len(c.fleet.heard(SlotUp)) >= executors * len(names))


def notes(folder: Path, kind: str) -> Counter[tuple[str, str]]:
    """Pairs of a worker and what it ran."""
    found = [path.name.split(".") for path in folder.glob(f"{kind}.*")]
    return Counter((place, what) for _, place, what, _ in found)


def test_tasks_run_near_what_they_read(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    inputs = write_files(tmp_path, "b", ["2", "3"]) + write_files(tmp_path, "a", ["0", "1"])
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 2, "a", "b")
        params = {"folder": str(folder)}
        outcome = c.run(
            ByWord, inputs, tmp_path / "out", reducers=4, params=params, split_size="100B", speculation=False
        )
    near = [("a", "0"), ("a", "1"), ("b", "2"), ("b", "3")]
    assert sorted(notes(folder, "map")) == near
    assert sorted(notes(folder, "reduce")) == near
    assert outcome.view.failed_attempts == 0
    assert counts_in(tmp_path / "out") == Counter({word: 50 for word in "0123"})


def test_map_tasks_run_where_a_storage_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first half of a file is near one worker, the second near the other."""
    folder, info = tmp_path / "notes", tmp_path / "installed" / "halves-1.dist-info"
    for path in (folder, info):
        path.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gristmill.storage]\nhalves = halves_storage:storage\n")
    (info.parent / "halves_storage.py").write_text(
        "def storage(uri):\n    return uri.removeprefix('halves://'), lambda path, start, length: 'ab'[start // 100]\n"
    )
    monkeypatch.syspath_prepend(info.parent)
    (tmp_path / "in.txt").write_text("0\n" * 50 + "1\n" * 50)
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 1, "b", "a")
        params, inputs = {"folder": str(folder)}, f"halves://{tmp_path}/in.txt"
        c.run(Noted, [inputs], tmp_path / "out", reducers=1, params=params, split_size="100B", speculation=False)
    assert sorted(notes(folder, "map")) == [("a", "0"), ("b", "1")]
    assert counts_in(tmp_path / "out") == Counter({"0": 50, "1": 50})


def test_a_task_goes_elsewhere_when_its_place_stays_busy(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    inputs = write_files(tmp_path, "b", ["0", "1"])
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 1, "a", "b")
        params = {"folder": str(folder), "begun": 2}  # each waits for the other: b alone never comes to an end
        c.run(Noted, inputs, tmp_path / "out", reducers=1, params=params, split_size="100B", speculation=False)
    assert sorted(place for place, _ in notes(folder, "map")) == ["a", "b"]


def test_the_rack_comes_before_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    inputs = write_files(tmp_path, "home", ["0", "1"])
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 1, "far", "near", "home", racks={"far": "r2", "near": "r1", "home": "r1"})
        params = {"folder": str(folder), "begun": 2}  # each waits for the other: one must go elsewhere
        c.run(Noted, inputs, tmp_path / "out", reducers=1, params=params, split_size="100B", speculation=False)
    assert sorted(place for place, _ in notes(folder, "map")) == ["home", "near"]


class FailsThere(Noted):
    """Fails on the worker ``bad``. Others wait until three tasks have, and then take a while for each."""

    def note(self, kind: str, what: str) -> bool:
        super().note(kind, what)
        if kind == "map":
            assert os.environ["PLACE"] != "bad", "it does not work here"
            deadline = time.monotonic() + 60
            while len(list(Path(self.params["folder"]).glob("map.bad.*"))) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)
        return True


def test_a_worker_on_which_different_tasks_fail_is_rested(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    inputs = write_files(tmp_path, "", [str(number) for number in range(24)])
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 1, "bad", "good")
        outcome = c.run(
            FailsThere, inputs, tmp_path / "out", reducers=1, params={"folder": str(folder)}, split_size="100B"
        )
    assert counts_in(tmp_path / "out") == Counter({str(number): 50 for number in range(24)})
    assert 3 <= sum(place == "bad" for place, _ in notes(folder, "map")) < 8, "it would be half of them, and retries"
    assert outcome.view.failed_attempts >= 3


def test_a_job_of_higher_priority_overtakes(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as c:
        add_places(c, 1, "w")
        running = []
        for name, priority in (("low", 0), ("high", 10)):
            (folder := tmp_path / name).mkdir()
            inputs = write_files(folder, "", [str(number) for number in range(8)])
            params = {"folder": str(folder), "begun": 2 * (name == "low")}  # its first task waits for company
            options: dict[str, Any] = {"reducers": 1, "split_size": "100B", "speculation": False}
            running.append(c.submit(Noted, inputs, folder / "out", priority=priority, params=params, **options))
            c.wait_until(lambda: len(c.fleet.heard(JobAdmitted)) == len(running))
            c.wait_until(lambda: list((tmp_path / "low").glob("map.*")))
        gate = tmp_path / "low" / "map.gate.-.0"
        gate.touch()
        for job in running:
            c.finish(job)
        gate.unlink()
    marks = [path for name in ("low", "high") for path in (tmp_path / name).glob("map.*")]
    order = [path.parent.name for path in sorted(marks, key=lambda path: int(path.name.rpartition(".")[2]))]
    assert order == ["low", *["high"] * 8, *["low"] * 7]


@pytest.mark.parametrize(("job", "seconds", "most"), [(Crowd, 10.0, 2), (TwoCpus, 0.1, 1), (MuchMemory, 0.1, 1)])
def test_no_worker_runs_more_at_once_than_it_offers(
    three: Cluster, tmp_path: Path, job: type[Crowd], seconds: float, most: int
) -> None:
    inputs = write_files(tmp_path, "", [str(number) for number in range(6)])
    params = {"folder": str(tmp_path), "seconds": seconds}
    three.run(job, inputs, tmp_path / "out", reducers=1, params=params, split_size="100B", speculation=False)
    at_once = [int(path.name.split(".")[1]) for path in tmp_path.glob("at-once.*")]
    assert len(at_once) == 6
    assert max(at_once) >= 2 if most > 1 else max(at_once) == 1


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A worker with three executors, three CPUs and 512 MiB."""
    with cluster(tmp_path_factory.mktemp("three"), workers=0) as c:
        add_places(c, 3, "w")
        yield c
