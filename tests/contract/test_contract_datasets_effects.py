"""What datasets do besides giving elements, alike on every fleet: what is computed how often, and what failures say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dataset_functions as f
import pytest
from dataset_fleets import EACH_FLEET, on_fleets, session_for

import gristmill
from gristmill import CollectTooLarge, EmptyDataset, InputMissing, JobFailed, Session, UnpicklableCode, UsageError

HERE = Path(__file__).name


@pytest.fixture(scope="module", params=EACH_FLEET)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_for(request, tmp_path_factory) as opened:
        yield opened


class Tally:
    """Counts calls, in whatever process they are made, by files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def __call__(self, what: Any) -> Any:
        """One more; gives back what it is given."""
        (self._folder / f"{what}-{uuid.uuid4().hex}").touch()
        return what

    def counts(self) -> dict[str, int]:
        """How often it was called with what, since this was last asked."""
        found: dict[str, int] = {}
        for path in self._folder.iterdir():
            name = path.name.rpartition("-")[0]
            found[name] = found.get(name, 0) + 1
            path.unlink()
        return found


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally(tmp_path / "tally")


ONCE = {str(value): 1 for value in range(6)}


def test_nothing_runs_before_an_action(session: Session, tally: Tally) -> None:
    made = session.range(6).map(tally)
    pairs = made.map(f.pair)
    every = [
        made.filter(f.odd).union(made), pairs.group_by_key(), pairs.join(pairs), made.sort_by(f.small), made.zip(made),
        made.zip_with_index(), made.distinct(), made.cartesian(made), pairs.keys().cache(), pairs.union(pairs).glom(),
    ]  # fmt: skip
    assert all(repr(each) and each._repr_html_() and each.explain() for each in every)
    assert tally.counts() == {}


def test_each_action_computes_once(session: Session, tally: Tally) -> None:
    made = session.range(6, partitions=3).map(tally)
    for act in (
        lambda d: d.collect(),
        lambda d: d.count(),
        lambda d: d.map(f.pair).reduce_by_key(f.add).collect(),
        lambda d: d.sum(),
        lambda d: d.map(f.pair).group_by_key(2).map_values(len).collect(),
        lambda d: d.sort_by(f.small, partitions=1).collect(),
        lambda d: list(d.iterate()),
        lambda d: d.foreach(f.small),
    ):
        act(made)
        assert tally.counts() == ONCE


def test_branches_of_an_exchange_compute_once(session: Session, tally: Tally) -> None:
    counts = session.range(6, partitions=3).map(tally).map(f.pair).reduce_by_key(f.add, partitions=2)
    counts.join(counts.map_values(f.small)).union(counts.map_values(f.pair)).count()
    assert tally.counts() == ONCE


def test_take_reads_few_tasks(session: Session, tally: Tally) -> None:
    assert session.range(6, partitions=6).map(tally).take(1) == [0]
    assert "0" in (seen := tally.counts())
    assert len(seen) < 6


def test_what_is_kept_is_computed_once(session: Session, tally: Tally) -> None:
    kept = session.range(6, partitions=3).map(tally).cache()
    assert tally.counts() == {}
    for _ in range(3):
        assert kept.map(f.small).collect() == [f.small(value) for value in range(6)]
        assert kept.map(f.pair).group_by_key().count() == len({f.small(value) for value in range(6)})
        assert kept.count() == 6
    assert tally.counts() == ONCE
    kept.unpersist()
    assert kept.collect() == list(range(6))
    assert tally.counts() == ONCE


@pytest.mark.parametrize("level", ["MEMORY", "MEMORY_AND_DISK", "DISK"])
def test_levels(session: Session, tally: Tally, level: str) -> None:
    kept = session.range(6, partitions=2).map(tally).persist(level, compressed=level == "DISK")
    assert kept.storage_level.startswith(level)
    assert [kept.collect(), kept.collect()] == [list(range(6))] * 2
    assert tally.counts() == ONCE


def test_a_checkpoint_is_computed_once(session: Session, tally: Tally) -> None:
    kept = session.range(6, partitions=2).map(tally).checkpoint()
    assert [kept.collect(), kept.map(f.pair).values().collect()] == [list(range(6))] * 2
    assert tally.counts() == ONCE


def test_foreach(session: Session, tally: Tally) -> None:
    assert session.range(6, partitions=4).foreach(tally) is None  # type: ignore[func-returns-value]
    assert tally.counts() == ONCE


def test_for_each_partition(session: Session, tally: Tally) -> None:
    session.range(7, partitions=3).for_each_partition(lambda rows: tally(sum(rows)))
    assert tally.counts() == {"1": 1, "5": 1, "15": 1}
    session.range(6, partitions=3).for_each_partition(lambda rows: tally(next(rows)))
    assert tally.counts() == {"0": 1, "2": 1, "4": 1}


def test_an_iterative_job(session: Session) -> None:
    """PageRank of a small graph, its links kept; the oracle is a loop over dicts."""
    links = {place: sorted({place * 7 % 11, place * 3 % 11, (place + 1) % 11}) for place in range(11)}
    kept = session.from_items(sorted(links.items()), partitions=3).partition_by(2).cache()
    ranks = kept.map_values(lambda _: 1.0)
    expected = dict.fromkeys(links, 1.0)
    for _ in range(4):
        parts = kept.join(ranks).flat_map(lambda row: [(to, row[1][1] / len(row[1][0])) for to in row[1][0]])
        ranks = parts.reduce_by_key(lambda left, right: left + right, partitions=2).map_values(
            lambda rank: 0.15 + 0.85 * rank
        )
        given: dict[int, float] = {}
        for place, rank in expected.items():
            for to in links[place]:
                given[to] = given.get(to, 0.0) + rank / len(links[place])
        expected = {place: 0.15 + 0.85 * rank for place, rank in given.items()}
    assert dict(ranks.collect()) == pytest.approx(expected)


# Shared variables


def test_a_broadcast_value(session: Session) -> None:
    names = {(place, "é\udc80"): [place, None] for place in range(5)}
    shared = gristmill.broadcast(names)
    names.clear()  # it is taken as it was
    made = session.range(5, partitions=3).map(lambda place: shared.value[place, "é\udc80"])
    assert made.collect() == [[place, None] for place in range(5)]
    by_key = session.range(5, partitions=3).key_by(f.small).reduce_by_key(lambda left, _: left + len(shared.value), 2)
    assert by_key.count() == len({f.small(place) for place in range(5)})
    shared.destroy()
    with pytest.raises(gristmill.GristmillError):
        made.collect()


def test_accumulators_count_each_task_once(session: Session, tmp_path: Path) -> None:
    whole, parts = gristmill.accumulator(100), gristmill.accumulator(0.5)
    marker = tmp_path / "failed"

    def counted(value: int) -> int:
        whole.add(value)
        parts.add(0.25)
        if value == 4 and not marker.exists():  # what this attempt has added does not count
            marker.touch()
            raise ValueError("only once")
        return value

    made = session.range(6, partitions=2).map(counted)
    assert made.map(f.pair).group_by_key(2).count() == len({f.small(value) for value in range(6)})
    assert marker.exists()
    assert (whole.value, parts.value) == (100 + 15, 0.5 + 6 * 0.25)
    made.count()
    assert whole.value == 100 + 15 + 15, "another action counts again"
    kept = made.cache()
    assert [kept.count(), kept.count()] == [6, 6]
    assert whole.value == 100 + 15 * 3, "what is kept does not"


# Failures


def fail_at(bad: Any) -> Callable[[Any], Any]:
    """A function that fails at an element."""

    def function(value: Any) -> Any:
        if value == bad:
            raise ValueError(f"no {value} here")
        return value

    return function


Act = Callable[[Any], Any]
FAILING: dict[str, Act] = {
    "map": lambda d: d.map(fail_at(4)).collect(),
    "flat_map": lambda d: d.flat_map(lambda value: [fail_at(4)(value)]).collect(),
    "filter": lambda d: d.filter(fail_at(4)).collect(),
    "key_by": lambda d: d.key_by(fail_at(4)).group_by_key().collect(),
    "map_values": lambda d: d.key_by(f.small).map_values(fail_at(4)).collect(),
    "map_partitions": lambda d: d.map_partitions(lambda rows: map(fail_at(4), rows)).collect(),
    "reduce_by_key": lambda d: d.map(lambda _: (0, 4)).reduce_by_key(lambda left, _: fail_at(4)(left)).collect(),
    "group_by": lambda d: d.group_by(fail_at(4)).collect(),
    "sort_by": lambda d: d.sort_by(fail_at(4)).collect(),
    "reduce": lambda d: d.reduce(lambda _, right: fail_at(4)(right)),
    "fold": lambda d: d.fold(0, lambda _, right: fail_at(4)(right)),
    "top": lambda d: d.top(2, key=fail_at(4)),
    "foreach": lambda d: d.foreach(fail_at(4)),
    "after an exchange": lambda d: d.map(lambda value: (value, value)).group_by_key().keys().map(fail_at(4)).collect(),
    "of a kept one": lambda d: d.cache().map(fail_at(4)).collect(),
    "partition_by": lambda d: d.key_by(f.small).partition_by(2, lambda _: fail_at(4)(4)).collect(),
}


@on_fleets("act", FAILING.values(), FAILING)
def test_functions_that_fail(session: Session, act: Act) -> None:
    with pytest.raises(JobFailed) as caught:
        act(session.range(6, partitions=2))
    report = caught.value.report
    assert report is not None
    assert (report.error, report.exception) == ("UserCodeError", "ValueError")
    assert report.frames[-1].source.startswith("raise ValueError"), "the line that failed"
    said = str(caught.value)
    assert "no 4 here" in said
    assert said.count(HERE) >= 2, "the line that failed, and the one that built the step"


REFUSED: dict[str, tuple[Act, str, str]] = {
    "a list as a key": (lambda d: d.map(lambda value: ([value], 1)).group_by_key(), "KeyTypeRefused", "list"),
    "a dict to sort by": (lambda d: d.sort_by(lambda value: {}), "KeyTypeRefused", "dict"),
    "lists to be distinct": (lambda d: d.map(lambda value: [value]).distinct(), "KeyTypeRefused", "list"),
    "a set to join by": (lambda d: d.key_by(lambda value: {value}).join(d.key_by(f.odd)), "KeyTypeRefused", "set"),
    "no pairs": (lambda d: d.group_by_key(), "UserCodeError", "pair"),
    "no pairs to fold": (lambda d: d.reduce_by_key(f.add), "UserCodeError", "pair"),
    "texts for pairs": (lambda d: d.map(str).reduce_by_key(f.add), "UserCodeError", "pair"),
    "triples for pairs": (lambda d: d.map(lambda value: (value, 1, 2)).group_by_key(), "UserCodeError", "pair"),
    "no iterable": (lambda d: d.flat_map(f.small), "UserCodeError", "flat_map"),
    "zip of other lengths": (lambda d: d.zip(d.filter(f.odd)), "LengthsDiffer", "6"),
    "a sum of texts": (lambda d: d.map(str).sum(), "UserCodeError", "number"),
    "a program that fails": (lambda d: d.pipe("false"), "UserCodeError", "false"),
    "no such program": (lambda d: d.pipe("no-such-program"), "UserCodeError", "no-such-program"),
    "what cannot be pickled": (lambda d: d.map(lambda value: (x for x in [value])), "", "generator"),
}  # fmt: skip


@on_fleets("act,error,word", REFUSED.values(), REFUSED)
def test_what_is_refused(session: Session, act: Act, error: str, word: str) -> None:
    with pytest.raises(JobFailed, match=word) as caught:
        made = act(session.range(6, partitions=2))
        made.collect()
    report = caught.value.report
    assert report is not None
    assert report.error == error or not error
    assert HERE in str(caught.value), "the line that built the step"


WRONG: dict[str, tuple[Act, type[Exception]]] = {
    "reduce of nothing": (lambda d: d.filter(lambda _: False).reduce(f.add), EmptyDataset),
    "first of nothing": (lambda d: d.filter(lambda _: False).first(), EmptyDataset),
    "max of nothing": (lambda d: d.filter(lambda _: False).max(), EmptyDataset),
    "mean of nothing": (lambda d: d.filter(lambda _: False).mean(), EmptyDataset),
    "a dataset in a function": (lambda d: d.map(lambda value: d.count()).collect(), UnpicklableCode),
    "too much": (lambda d: d.map(lambda value: "x" * 1000).collect(limit=100), CollectTooLarge),
    "no partitions": (lambda d: d.repartition(0), UsageError),
    "a negative number": (lambda d: d.take(-1), UsageError),
    "no function": (lambda d: d.map(3), UsageError),
    "a fraction above one": (lambda d: d.sample(1.5), UsageError),
    "no such level": (lambda d: d.persist("TAPE"), UsageError),
    "no such mode": (lambda d: d.write_text("/nowhere", mode="maybe"), UsageError),
}


@on_fleets("act,error", WRONG.values(), WRONG)
def test_what_is_wrong(session: Session, act: Act, error: type[Exception]) -> None:
    with pytest.raises(error):
        act(session.range(6, partitions=2))


def test_the_sum_of_nothing_is_0(session: Session) -> None:
    nothing = session.range(0)
    assert (nothing.sum(), nothing.count(), nothing.collect(), nothing.take(3)) == (0, 0, [], [])
    assert (nothing.top(2), nothing.count_by_value(), nothing.fold(5, f.add)) == ([], {}, 5 + 5)
    assert nothing.is_empty()


def test_inputs_that_are_not_there(session: Session, tmp_path: Path) -> None:
    missing = session.read_text(tmp_path / "nothing*")  # reading is lazy
    with pytest.raises(InputMissing, match="nothing"):
        missing.count()


def test_the_session_goes_on_after_a_failure(session: Session) -> None:
    made = session.range(6, partitions=2)
    kept = made.map(f.small).cache()
    assert kept.count() == 6
    with pytest.raises(JobFailed):
        kept.map(lambda _: 1 // 0).collect()
    assert kept.collect() == [f.small(value) for value in range(6)]
