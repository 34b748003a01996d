"""Datasets whose stages are cut by what was measured: the same elements, in an order that follows from sizes alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest

from gristmill import Session
from gristmill.api.datasets.dataset import Dataset
from gristmill.plan import adapt
from gristmill.plan.adapt import Limits

KIB = 1024
NEVER = Limits(merged_bytes=0, skewed_bytes=1 << 60)
HOT = 7
ROWS = [(HOT if number % 5 else number % 331, number) for number in range(15_000)]
NAMES = [(key, f"n{key}") for key in range(331)]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    small = Limits(merged_bytes=64 * KIB, least_tasks=2, skewed_bytes=4 * KIB, skewed_times=2, piece_bytes=2 * KIB)
    monkeypatch.setattr(adapt, "LIMITS", small)
    with Session(on="inline", data_dir=tmp_path / "data", reducers=8) as opened:
        yield opened


def rows_of(session: Session) -> Dataset[tuple[int, int]]:
    return session.from_items(ROWS, 5)


def names_of(session: Session) -> Dataset[tuple[int, str]]:
    return session.from_items(NAMES, 2)


def notes_of(dataset: Dataset[Any]) -> list[str]:
    """What was adapted at the last action, without the numbers."""
    assert dataset._ran is not None
    words = ("merged by", "is read by", "are read by")
    return [next(word for word in words if word in note) for note in dataset._ran.adaptations]


def planned(dataset: Dataset[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The elements if nothing is adapted."""
    with monkeypatch.context() as patch:
        patch.setattr(adapt, "LIMITS", NEVER)
        found = dataset.collect()
        assert notes_of(dataset) == []
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda rows, names: rows.join(names),
        lambda rows, names: rows.left_join(names),
        lambda rows, names: names.right_join(rows),
        lambda rows, names: rows.join(names).map(lambda pair: (pair[1][1], 1)),
        lambda rows, names: rows.subtract_by_key(names.filter(lambda pair: pair[0] % 2 == 0)),
    ],
)
def test_a_skewed_side_of_a_join_is_read_by_several_tasks(
    session: Session, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any, Any], Dataset[Any]]
) -> None:
    joined = make(rows_of(session), names_of(session))
    adapted = joined.collect()
    assert notes_of(joined) == ["are read by", "is read by"]
    assert Counter(adapted) == Counter(planned(joined, monkeypatch))
    assert joined.collect() == adapted
    for count in (3, 2000, len(adapted)):
        assert joined.take(count) == adapted[:count]


@pytest.mark.parametrize(
    "make",
    [
        lambda rows, names: rows.outer_join(names),
        lambda rows, names: names.left_join(rows),
        lambda rows, names: rows.join(names).reduce_by_key(lambda one, _: one),
        lambda rows, names: rows.join(names).map_partitions(lambda pairs: [len(list(pairs))]),
        lambda rows, names: rows.cogroup(names).map_values(lambda sides: (len(sides[0]), len(sides[1]))),
        lambda rows, _: rows.group_by_key().map_values(list),
        lambda rows, _: rows.distinct(),
        lambda rows, _: rows.sort_by(lambda pair: pair[1] % 100),
        lambda rows, _: rows.reduce_by_key(add).sample(0.5, seed=3),
        lambda rows, _: rows.reduce_by_key(add).glom().map(len),
        lambda rows, names: rows.reduce_by_key(add).union(names.group_by_key().map_values(len)),
    ],
)
def test_what_cannot_be_divided_stays_in_its_order(
    session: Session, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any, Any], Dataset[Any]]
) -> None:
    made = make(rows_of(session), names_of(session))
    adapted = made.collect()
    assert "is read by" not in notes_of(made)
    assert adapted == planned(made, monkeypatch)


def test_large_folded_values_are_merged_in_between(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = rows_of(session).combine_by_key(lambda value: [value], _with, add)
    adapted = lists.collect()
    assert "merged by" in notes_of(lists)
    assert adapted == planned(lists, monkeypatch)
    expected = defaultdict(list)
    for key, value in ROWS:
        expected[key].append(value)
    assert dict(adapted) == expected


def _with(values: list[int], value: int) -> list[int]:
    values.append(value)
    return values


def test_a_failing_merge_is_the_users(session: Session) -> None:
    def merge(one: list[int], other: list[int]) -> list[int]:
        if len(one) + len(other) > 10_000:
            raise ValueError("too many for me")
        return one + other

    with pytest.raises(Exception, match="too many for me"):
        rows_of(session).combine_by_key(lambda value: [value], _with, merge).collect()


def test_outputs_have_fewer_files_and_the_same_lines(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = rows_of(session).reduce_by_key(add)
    counts.write_jsonl(tmp_path / "adapted")
    assert notes_of(counts) == ["are read by"]
    monkeypatch.setattr(adapt, "LIMITS", NEVER)
    counts.write_jsonl(tmp_path / "planned")
    adapted, planned = (sorted((tmp_path / name).glob("part-*")) for name in ("adapted", "planned"))
    assert len(adapted) < len(planned) == 8
    assert b"".join(map(Path.read_bytes, adapted)) == b"".join(map(Path.read_bytes, planned))


def test_a_chosen_number_of_partitions_is_the_number_of_files(session: Session, tmp_path: Path) -> None:
    rows_of(session).reduce_by_key(add, partitions=6).write_jsonl(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == 6
    rows_of(session).join(names_of(session), partitions=6).write_jsonl(tmp_path / "joined")
    assert len(list((tmp_path / "joined").glob("part-*"))) == 6


def test_what_is_kept_is_not_made_again_though_it_was_made_by_a_stage_that_was_cut(session: Session) -> None:
    pairs = rows_of(session).join(names_of(session)).map(lambda pair: (pair[0] % 5, 1))
    kept = pairs.reduce_by_key(add).cache()
    first = kept.collect()
    assert "is read by" in notes_of(kept)
    for _ in range(2):
        assert kept.collect() == first
        assert kept._ran is not None and kept._ran.attempts == kept._ran.stages[-1].tasks


def test_the_explanation_shows_the_plan_before_and_after(session: Session) -> None:
    joined = rows_of(session).join(names_of(session))
    before = str(joined.explain())
    assert "as it ran last" not in before and "stage 2: join" in before
    joined.collect()
    after = str(joined.explain())
    assert after.startswith(before)
    assert "stage 2: join, 7 tasks" in after.partition("as it ran last")[2]
    assert "  adapted: 8 partitions are read by " in after
    assert "  adapted: partition " in after


def test_hot_keys_are_named(session: Session) -> None:
    groups = rows_of(session).group_by_key().map_values(len)
    assert max(dict(groups.collect()).values()) > 12_000
    assert groups._ran is not None
    [(key, rows)] = groups._ran.hot_keys
    assert (key, rows) == (repr(HOT), sum(key == HOT for key, _ in ROWS))
    assert "hot keys: 7 12," in str(groups.explain())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A file of many pairs, and one of few; the many wait until the few are measured."""
    monkeypatch.setattr(adapt, "LIMITS", Limits(held_bytes=64 * KIB))
    many, few = tmp_path / "many.jsonl", tmp_path / "few.jsonl"
    many.write_text("".join(f'[{number % 97}, "value {number}"]\n' for number in range(6000)))
    few.write_text("".join(f'[{number}, "name {number}"]\n' for number in range(60)))
    return many, few


def pairs_of(session: Session, path: Path) -> Dataset[tuple[int, str]]:
    return session.read_jsonl(str(path)).map(tuple)


@pytest.mark.parametrize(
    ("make", "is_turned"),
    [
        (lambda many, few: many.join(few), True),
        (lambda many, few: few.join(many), True),
        (lambda many, few: many.left_join(few), True),
        (lambda many, few: few.right_join(many).filter(lambda pair: pair[0] % 2), True),
        (lambda many, few: many.union(many).join(few).values(), True),
        (lambda many, few: few.left_join(many), False),
        (lambda many, few: many.outer_join(few), False),
        (lambda many, few: many.join(few).map_values(len).reduce_by_key(add), False),
    ],
)
def test_a_side_that_proves_small_is_read_as_a_whole(
    session: Session,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Any, Any], Dataset[Any]],
    is_turned: bool,
) -> None:
    made = make(*(pairs_of(session, path) for path in files))
    adapted = made.collect()
    assert made._ran is not None
    assert any("is not exchanged" in note for note in made._ran.adaptations) == is_turned
    assert "is not exchanged" in str(made.explain()) or not is_turned
    assert Counter(adapted) == Counter(planned(made, monkeypatch))
    assert made.collect() == adapted
    assert made.take(5) == adapted[:5]


def test_a_side_that_does_not_prove_small_is_exchanged(
    session: Session, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "LIMITS", Limits(held_bytes=64 * KIB, whole_bytes=10))
    many, few = (pairs_of(session, path) for path in files)
    joined = many.join(few)
    assert len(joined.collect()) == sum(number % 97 < 60 for number in range(6000))
    assert joined._ran is not None
    assert [stage.tasks for stage in joined._ran.stages[:2]] == [1, 1]


def test_what_is_kept_of_a_join_that_was_turned_is_not_made_again(session: Session, files: tuple[Path, Path]) -> None:
    many, few = (pairs_of(session, path) for path in files)
    kept = many.join(few).map(lambda pair: (pair[0] % 5, 1)).reduce_by_key(add).cache()
    first = kept.collect()
    assert kept._ran is not None and any("is not exchanged" in note for note in kept._ran.adaptations)
    assert kept.collect() == first
    assert kept._ran.attempts == kept._ran.stages[-1].tasks
