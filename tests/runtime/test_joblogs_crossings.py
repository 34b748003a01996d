"""Logs that come while the folder of their job is removed: in every order of the steps of both, none is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crossings import Crossing, cross, every_order

from gristmill.runtime.files.jobfolder import JobFolder, dead_jobs, prune
from gristmill.runtime.files.joblogs import LogKeeper, list_logs, read_log

TEXT = b"the last words\n"
NOW = 1_800_000_000.0
Remover = Callable[[JobFolder], None]


class Case:
    """A job that ends while its log comes, again and again.

    Args:
        root: for the folders of the jobs.
        remove: what is done to a job's folder meanwhile.
        known: the keeper has heard of the attempt before.
        kept: a log of another attempt is there.
    """

    def __init__(self, root: Path, remove: Remover, known: bool = False, kept: bool = False) -> None:
        self._root, self._remove, self._known, self._kept = root, remove, known, kept
        self._numbers = itertools.count()
        self.keeper = LogKeeper()

    def run(self, wanted: tuple[int, ...]) -> tuple[Crossing, JobFolder]:
        data_dir = self._root / str(next(self._numbers))
        folder = JobFolder.create(data_dir, {"name": "words"}, NOW)
        (folder.path / "journal.db").write_text("facts")
        name = f"{folder.job}-s0-t00000-a1"
        if self._kept:
            self.keeper.keep(str(folder.path), f"{folder.job}-s0-t00001-a1", b"others\n")
        if self._known:
            self.keeper.keep(str(folder.path), name, b"", 0, last=False)
        self.keeper.settle(20)
        crossing = Crossing(str(folder.path), wanted)
        parts = itertools.count()

        def told(_: str, data: bytes) -> None:
            if not data:
                crossing.take_part(1)
            elif next(parts):
                crossing.leave(1)

        def come() -> None:  # in two parts
            self.keeper.keep(str(folder.path), name, b"")
            self.keeper.keep(str(folder.path), name, TEXT[:4], 0, last=False)
            self.keeper.keep(str(folder.path), name, TEXT[4:], 4)

        self.keeper.listener = told
        try:
            cross(crossing, lambda: self._remove(folder), come)
            self.keeper.settle(20)
        finally:
            self.keeper.listener = None
            folder.release()
        return crossing, folder


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Callable[..., Case]]:
    made: list[Case] = []

    def make(remove: Remover, **how: bool) -> Case:
        made.append(Case(tmp_path / str(len(made)), remove, **how))
        return made[-1]

    yield make
    for one in made:
        one.keeper.close()


def succeed(folder: JobFolder) -> None:
    folder.remove_but_logs()


def tidy(folder: JobFolder) -> None:
    """As the next server does, if the first was killed before that."""
    folder.release()
    facts = json.loads((folder.path / "job.json").read_text())
    (folder.path / "job.json").write_text(json.dumps({**facts, "pid": None}))
    again = JobFolder.adopt(folder.path)
    assert again is not None
    again.remove_but_logs()


@pytest.mark.parametrize(
    ("remove", "how"),
    [(succeed, {}), (succeed, {"known": True}), (succeed, {"kept": True}), (tidy, {})],
    ids=["new", "known", "kept", "tidied"],
)
def test_no_order_loses_a_log(case: Callable[..., Case], remove: Remover, how: dict[str, bool]) -> None:
    one = case(remove, **how)

    def run(wanted: tuple[int, ...]) -> Crossing:
        crossing, folder = one.run(wanted)
        assert read_log(folder.path, f"{folder.job}-s0-t00000-a1") == (TEXT, len(TEXT)), crossing.chosen
        assert len(list_logs(folder.path)) == (2 if how.get("kept") else 1)
        left = {entry.name for entry in folder.path.iterdir()}
        assert left <= {"logs", "job.json", "lock"}, crossing.chosen
        if "job.json" in left:  # it may be pruned
            [(path, facts)] = dead_jobs(folder.path.parents[1])
            assert (path, facts["state"], facts["pid"]) == (folder.path, "succeeded", None)
        return crossing

    assert every_order(run, 2) > 20


def test_of_a_job_that_is_pruned_a_log_is_there_as_a_whole_or_not(case: Callable[..., Case]) -> None:
    def old(folder: JobFolder) -> None:
        folder.update(state="failed")
        folder.release()
        prune(folder.path.parents[1], NOW * 2)

    one = case(old)

    def run(wanted: tuple[int, ...]) -> Crossing:
        crossing, folder = one.run(wanted)
        text, _ = read_log(folder.path, f"{folder.job}-s0-t00000-a1")
        assert text in (TEXT, b"", b"[the first 4 bytes are left out]\n" + TEXT[4:]), crossing.chosen
        return crossing

    assert every_order(run, 2) > 20
