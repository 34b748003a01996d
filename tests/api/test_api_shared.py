"""Broadcasts and accumulators, in this process, in executors beside it, and on a server."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chaos_cluster_kit import site

import gristmill as gm
from gristmill import Accumulator, Broadcast, JobFailed, Session
from gristmill.errors import BroadcastDestroyed, UnpicklableCode, UsageError


@pytest.fixture(scope="module", params=["inline", "local", "server"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session on each fleet."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "server":
        with (
            site(folder, workers=2) as served,
            Session(on=served.url, token_file=served.token_file, data_dir=folder / "client") as opened,
        ):
            yield opened
    else:
        with Session(on=request.param, executors=2, memory="512MiB", data_dir=folder) as opened:
            yield opened


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Session]:
    with Session(on="local", executors=2, memory="512MiB", data_dir=tmp_path / "data") as opened:
        yield opened


def noted(folder: Path) -> list[str]:
    """What tasks have noted in a folder."""
    return sorted(path.name for path in folder.iterdir())


def first_time(flag: Path) -> bool:
    """Whether nobody was here before."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# Broadcasts


class Loaded:
    """A value that notes in which process it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.squares = {n: n * n for n in range(1000)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with (self.folder / str(os.getpid())).open("a") as file:
            file.write("loaded\n")


def test_a_broadcast_is_read_in_tasks(session: Session) -> None:
    names = gm.broadcast({n: f"name {n}" for n in range(1000)})
    assert session.range(5, partitions=3).map(lambda n: names.value[n]).collect() == [f"name {n}" for n in range(5)]
    assert names.value[7] == "name 7"


def test_it_is_loaded_once_in_each_process(session: Session, tmp_path: Path) -> None:
    loaded = gm.broadcast(Loaded(tmp_path))
    for _ in range(3):
        total = session.range(20, partitions=10).map(lambda n: loaded.value.squares[n]).sum()
        assert total == sum(n * n for n in range(20))
    assert noted(tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"loaded\n"}


def test_it_is_not_sent_with_every_job(local: Session, tmp_path: Path) -> None:
    large = gm.broadcast(os.urandom(3_000_000))
    for _ in range(3):
        assert local.range(4, partitions=2).map(lambda _: len(large.value)).sum() == 4 * 3_000_000
    [file] = tmp_path.glob("data/jobs/*/broadcasts/*")
    assert file.name == large.digest
    assert file.stat().st_size > 3_000_000
    local.close()
    assert not list(tmp_path.glob("data/jobs/*"))


def test_a_value_is_taken_as_it_is(session: Session) -> None:
    values = [1, 2]
    shared = gm.broadcast(values)
    values.append(3)
    if "inline" in repr(session):
        assert session.range(1).map(lambda _: list(shared.value)).collect() == [[1, 2]]
    else:
        assert session.range(1).map(lambda _: shared.value).collect() == [[1, 2]]


def test_a_destroyed_broadcast_is_gone(session: Session) -> None:
    shared, other = gm.broadcast("a"), gm.broadcast("b")
    mapped = session.range(2, partitions=2).map(lambda _: shared.value)
    assert mapped.collect() == ["a", "a"]
    assert session.range(1).map(lambda _: other.value).collect() == ["b"]
    shared.destroy()
    shared.destroy()
    with pytest.raises(BroadcastDestroyed, match="was destroyed"):
        _ = shared.value
    with pytest.raises(UnpicklableCode, match=r"test_api_shared\.py:\d+.*(?s:.)*was destroyed"):
        mapped.collect()
    assert session.range(1).map(lambda _: other.value).collect() == ["b"]
    again = gm.broadcast("a")
    assert session.range(1).map(lambda _: again.value).collect() == ["a"]


def test_a_destroyed_broadcast_leaves_no_file(tmp_path: Path) -> None:
    with (
        site(tmp_path, workers=1) as served,
        Session(on=served.url, token_file=served.token_file, data_dir=tmp_path / "client") as session,
    ):
        shared = gm.broadcast(b"x" * 100_000)
        assert session.range(1).map(lambda _: len(shared.value)).collect() == [100_000]

        def files() -> int:
            return len(list(tmp_path.glob(f"**/blobs/{shared.digest}")))

        assert files() == 2  # the server's and the worker's
        shared.destroy()
        served.wait_until(lambda: not files())


def test_a_broadcast_of_a_dataset_is_a_dataset(session: Session) -> None:
    small = gm.broadcast(session.from_items([(1, "one")]))
    assert session.from_items([(1, "x"), (2, "y")]).join(small).collect() == [(1, ("x", "one"))]


def test_what_cannot_be_broadcast_is_told() -> None:
    with pytest.raises(UnpicklableCode, match="type generator cannot be sent"):
        gm.broadcast(n for n in range(3))


def test_a_broadcast_is_for_functions_of_datasets(session: Session) -> None:
    shared = gm.broadcast(1)
    with pytest.raises(UsageError, match="used by functions of datasets"):
        session.from_items([shared]).collect()
    with pytest.raises(UnpicklableCode, match="used by functions of datasets"):
        pickle.dumps(shared)


def test_how_they_are_shown() -> None:
    assert repr(gm.broadcast([1])) == "<Broadcast of list>"
    assert repr(gm.accumulator(3)) == "<Accumulator 3>"
    assert (type(gm.broadcast(1)), type(gm.accumulator())) == (Broadcast, Accumulator)


# Accumulators


def adding(total: Accumulator, by: float = 1) -> Callable[[int], int]:
    """A function that counts its calls."""

    def add(n: int) -> int:
        total.add(by)
        return n

    return add


def test_tasks_add(session: Session) -> None:
    total = gm.accumulator(10)
    assert session.range(100, partitions=7).map(adding(total)).sum() == 4950
    assert total.value == 110
    assert session.range(10).map(adding(total)).count() == 10
    assert total.value == 120
    total.add(5)
    total += 1
    assert total.value == 126


def test_an_action_adds_again_but_what_is_kept_does_not(session: Session) -> None:
    total = gm.accumulator()
    mapped = session.range(50, partitions=5).map(adding(total))
    assert [mapped.count(), mapped.count(), total.value] == [50, 50, 100]
    kept = mapped.cache()
    assert [kept.count(), kept.sum(), kept.count(), total.value] == [50, 1225, 50, 150]
    folded = kept.map(adding(total)).key_by(lambda n: n % 3).reduce_by_key(lambda a, b: a + b).cache()
    assert [folded.count(), folded.count(), total.value] == [3, 3, 200]


def test_sums_of_floats_are_the_same_everywhere(session: Session) -> None:
    total = gm.accumulator(0.5)
    for by in (0.1, 1e16, -1e16, 1e-3):
        session.range(1000, partitions=9).map(adding(total, by)).count()
    expected = 0.5
    for by in (0.1, 1e16, -1e16, 1e-3):
        job: float = 0
        for part in (sum(by for _ in range(1000 * n // 9, 1000 * (n + 1) // 9)) for n in range(9)):
            job += part
        expected += job
    assert total.value == expected


def test_numbers_that_json_does_not_know(session: Session) -> None:
    total, most = gm.accumulator(), gm.accumulator()
    session.from_items([float("inf")]).map(total.add).count()
    session.from_items([2**80, 1]).map(most.add).count()
    assert (total.value, most.value) == (float("inf"), 2**80 + 1)


def test_an_attempt_that_failed_adds_nothing(session: Session, tmp_path: Path) -> None:
    total = gm.accumulator()

    def add(n: int) -> int:
        total.add(1)
        if n == 7 and first_time(tmp_path / "failed"):
            raise ValueError("once")
        return n

    assert session.range(20, partitions=4).map(add).sum() == 190
    assert noted(tmp_path) == ["failed"]
    assert total.value == 20


def test_an_executor_that_dies_adds_nothing(local: Session, tmp_path: Path) -> None:
    total = gm.accumulator()

    def add(n: int) -> int:
        total.add(1)
        if n == 7 and first_time(tmp_path / "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    assert local.range(20, partitions=4).map(add).sum() == 190
    assert (tmp_path / "died").exists()
    assert total.value == 20


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_is_lost_and_made_again_counts_once(local: Session, tmp_path: Path, shuffled: bool) -> None:
    total, runs = gm.accumulator(), tmp_path / "runs"
    runs.mkdir()

    def add(n: int) -> int:
        total.add(1)
        with (runs / str(n)).open("a") as file:
            file.write("x")
        return n

    mapped = local.range(40, partitions=4).map(add)
    if shuffled:
        mapped = mapped.key_by(lambda n: n % 5).reduce_by_key(lambda a, b: a + b, partitions=2).values()
    kept = mapped.map(Decimal).persist("DISK")  # no executor holds a copy of these
    assert [kept.sum(), total.value] == [780, 40]
    blocks = list(tmp_path.glob("data/jobs/*/blocks/*.block"))
    assert blocks
    for block in blocks:
        block.unlink(missing_ok=True)  # what an action has brought back goes by itself
    assert kept.sum() == 780
    assert Counter(len(path.read_text()) for path in runs.iterdir()) == {2: 40}
    assert total.value == 40


def test_a_job_that_fails_adds_what_was_done(local: Session, tmp_path: Path) -> None:
    total, last = gm.accumulator(), tmp_path / "done"
    last.mkdir()

    def add(n: int) -> int:
        total.add(1)
        if n == 3:
            while len(noted(last)) < 3:  # until the other tasks are over
                pass
            raise ValueError("always")
        return n

    def note(numbers: Iterator[int]) -> Iterator[int]:
        for n in numbers:
            yield n
            (last / str(n)).touch()

    with pytest.raises(JobFailed, match="always"):
        local.range(4, partitions=4).map(add).map_partitions(note).foreach(lambda _: None)
    assert total.value in (2, 3)  # the last of the others may be over, and not yet heard of


def test_what_an_accumulator_is_not_for(session: Session) -> None:
    total = gm.accumulator()
    with pytest.raises(JobFailed, match="cannot be read in a task"):
        session.range(1).map(lambda _: total.value).collect()
    with pytest.raises(JobFailed, match="adds whole numbers and floats, not 'x'"):
        session.range(1).map(lambda _: total.add("x")).collect()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="adds whole numbers and floats, not None"):
        gm.accumulator(None)  # type: ignore[arg-type]
    assert total.value == 0


def test_a_map_reduce_job_adds_as_well(tmp_path: Path) -> None:
    lines = gm.accumulator()

    class Lines(gm.MapReduce):
        def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
            lines.add(1)
            yield line, 1

    (tmp_path / "in.txt").write_text("a\nb\n")
    with Lines.run(tmp_path / "in.txt", on="inline", data_dir=tmp_path / "data") as result:
        assert len(list(result)) == 2
    assert lines.value == 2


def test_each_task_of_take_adds_once(session: Session) -> None:
    total = gm.accumulator()
    few = session.range(50, partitions=25).map(adding(total)).filter(lambda n: n > 20)
    assert few.take(5) == [21, 22, 23, 24, 25]
    assert 26 <= total.value <= 2 * (1 + 4 + 16)
    total = gm.accumulator()
    both = session.range(8, partitions=4).map(adding(total)).union(session.range(12, partitions=6).map(adding(total)))
    assert both.filter(lambda n: n == 11).take(2) == [11]
    assert total.value == 20


@pytest.mark.soak  # a copy starts only after some seconds
def test_a_task_that_runs_twice_adds_once(tmp_path: Path) -> None:
    total = gm.accumulator()

    def stuck_once(number: int) -> int:
        total.add(1)
        if number == 5 and first_time(tmp_path / "stuck"):
            time.sleep(60)
        (tmp_path / f"{number}-{os.getpid()}").touch()
        return number

    with Session(on="local", executors=3, memory="768MiB", data_dir=tmp_path / "data", speculation=True) as opened:
        began = time.monotonic()
        assert opened.range(12, partitions=12).map(stuck_once).sum() == 66
        assert time.monotonic() - began < 50, "the copy came first"
    assert total.value == 12
