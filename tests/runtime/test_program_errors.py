"""Which step failed, at which line, with which record or key: as it stands in the report of the failure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest

import gristmill as gm
from gristmill.errors import FailureReport, JobFailed

Build = Callable[[gm.Session], "gm.Dataset[Any]"]
HERE = Path(__file__).name


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gm.Session]:
    with gm.Session(on="inline", data_dir=tmp_path_factory.mktemp("data"), max_attempts=1) as session:
        yield session


def failure(dataset: gm.Dataset[Any]) -> FailureReport:
    """The report of the failure of a dataset that cannot be computed."""
    with pytest.raises(JobFailed) as caught:
        dataset.collect()
    report = caught.value.report
    assert report is not None
    if report.record:
        unit = report.details.get("unit", "record")
        assert f"\n{unit}: {report.record}\n" in str(caught.value)
    assert f"\nin the step: {report.function}" in str(caught.value)
    assert HERE in str(report.details["built"])
    return report


def fail(*_: Any) -> Any:
    raise ValueError("no good")


def pairs_of(session: gm.Session) -> gm.Dataset[tuple[str, int]]:
    return session.from_items([("a", 1), ("b", 2), ("a", 3), ("c", 4)], partitions=2)


@pytest.mark.parametrize(
    ("method", "build"),
    [
        ("reduce_by_key", lambda ds: ds.reduce_by_key(add)),
        ("group_by_key", lambda ds: ds.group_by_key()),
        ("join", lambda ds: ds.join(ds.map(lambda x: (x, x)))),
        ("partition_by", lambda ds: ds.partition_by(3)),
        ("count_by_key", lambda ds: ds.map(lambda x: x).key_by(str).map(lambda pair: pair[1]).reduce_by_key(add)),
        ("sort_by_key", lambda ds: ds.sort_by_key()),
        ("keys", lambda ds: ds.keys()),
        ("map_values", lambda ds: ds.map_values(str)),
        ("join", lambda ds: ds.map(lambda x: (x, x)).join(gm.broadcast(ds))),
    ],
)
def test_elements_that_are_no_pairs(session: gm.Session, method: str, build: Any) -> None:
    report = failure(build(session.from_items([5, 6], partitions=1)))
    name = "reduce_by_key" if method == "count_by_key" else method
    assert report.function == name
    assert f"{name}() takes (key, value) pairs, and " in report.message
    assert ".key_by(" in report.advice and "mapper" not in report.message


def test_the_record_of_what_is_no_pair_is_found(session: Any, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("a 1\nb 2\nthree\nc 4\n")
    report = failure(session.read_text(path).map(str.split).reduce_by_key(add))
    assert report.message == "reduce_by_key() takes (key, value) pairs, and this element is ['three']."
    assert (report.record, report.source, report.offset) == ("'three'", str(path), 8)
    report = failure(session.read_text(path).map(str.split).map_values(int))
    assert report.message == "map_values() takes (key, value) pairs, and this element is ['three']."
    assert (report.record, report.offset) == ("'three'", 8)


def test_a_key_that_cannot_be_one(session: gm.Session, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("a\nb\n")
    report = failure(session.read_text(path).map(lambda line: ([line], 1)).group_by_key())
    assert (report.error, report.function) == ("KeyTypeRefused", "group_by_key")
    assert "list" in report.message


@pytest.mark.parametrize(
    ("name", "build", "role"),
    [
        ("reduce_by_key", lambda ds: ds.reduce_by_key(fail), None),
        ("combine_by_key", lambda ds: ds.combine_by_key(fail, add, add), "create"),
        ("combine_by_key", lambda ds: ds.map(lambda p: ("a", 1)).combine_by_key(int, fail, add), "merge_value"),
        ("aggregate_by_key", lambda ds: ds.aggregate_by_key(0, fail, add), "create"),
        ("fold_by_key", lambda ds: ds.fold_by_key(0, fail), None),
        ("partition_by", lambda ds: ds.partition_by(2, fail), None),
    ],
)
def test_functions_that_an_exchange_calls(session: gm.Session, name: str, build: Any, role: str | None) -> None:
    report = failure(build(pairs_of(session)))
    assert (report.function, report.details.get("role")) == (name, role)
    assert report.record == "'a'" and report.details["unit"] == "key"
    assert report.frames[-1].function == "fail" and report.exception == "ValueError"


def test_a_function_in_c_fails_at_the_line_that_named_it(session: gm.Session) -> None:
    report = failure(session.from_items([("a", 1), ("a", "x")], partitions=1).reduce_by_key(add))
    assert report.frames[-1].function == "reduce_by_key()" and "reduce_by_key(add)" in report.frames[-1].source
    assert report.exception == "TypeError"
    # In another task each, they come together only where they are merged.
    report = failure(session.from_items([("a", 1), ("a", "x")], partitions=2).reduce_by_key(add, partitions=1))
    assert (report.function, report.record, report.source) == ("reduce_by_key", "'a'", "partition 0")
    assert report.details["unit"] == "key"


def test_a_partitioner_that_gives_no_number(session: Any) -> None:
    pairs: Any = pairs_of(session)
    report = failure(pairs.partition_by(2, lambda key: key))
    assert report.function == "partition_by" and "whole number" in report.advice


def test_after_an_exchange_the_key_is_named(session: gm.Session) -> None:
    groups = pairs_of(session).group_by_key(partitions=1)
    report = failure(groups.map_values(lambda values: 1 // (sum(values) - 2)))
    assert (report.function, report.record, report.source) == ("map_values", "'b'", "partition 0")


def test_in_a_join_the_key_is_that_of_the_pair_in_work(session: gm.Session) -> None:
    left, right = pairs_of(session), pairs_of(session)
    joined = left.join(right, partitions=1)
    report = failure(joined.map(lambda pair: 1 // (pair[1][0] - 2)))
    # The sides have been read on to the next key by then.
    assert (report.function, report.record) == ("map", "'b'")
    assert report.source == "partition 0 of both sides" and report.details["unit"] == "key"


def test_of_equal_functions_the_one_that_failed_is_named(session: gm.Session) -> None:
    halve = functools.partial(lambda divisor, x: 1 // (x - divisor), 3)
    chain = session.from_items([3], partitions=1)
    first = failure(chain.map(halve).map(halve))
    second = failure(chain.map(lambda x: x + 1).map(halve).map(lambda x: x + 2).map(halve))
    assert first.record == second.record == "3"
    lines = [int(str(each.details["built"]).rpartition(":")[2]) for each in (first, second)]
    assert lines[1] == lines[0] + 1


def test_a_function_of_one_step_that_calls_that_of_another(session: gm.Session) -> None:
    def inner(x: int) -> int:
        return 1 // x

    def outer(x: int) -> int:
        return inner(x - 1)

    report = failure(session.from_items([1]).map(inner).key_by(outer))
    assert report.function == "key_by" and report.frames[-1].function == "inner"


def test_batches_name_their_columns(session: gm.Session) -> None:
    report = failure(session.range(3).map_batches(lambda batch: batch.column("nope")))
    assert report.function == "map_batches" and report.frames[-1].file == __file__
    assert report.advice == "The columns of the batch: value."


def test_a_record_that_was_taken_ahead_does_not_pass_for_the_one(session: gm.Session) -> None:
    def second(elements: Iterator[int]) -> Iterator[int]:
        yield from (1 // (x - 1) for x in [*elements])

    report = failure(session.from_items([0, 1, 2], partitions=1).map_partitions(second))
    assert report.record == "" or report.details["unit"] == "last record read"


def test_zip_pipe_and_what_cannot_be_stored_name_their_step(session: gm.Session) -> None:
    report = failure(session.range(3).zip(session.range(4)))
    assert (report.error, report.function) == ("LengthsDiffer", "zip") and "3 elements, the other 4" in report.message
    report = failure(session.range(3, partitions=1).pipe("sh -c 'exit 3'"))
    assert report.function == "pipe" and "exit code 3" in report.message
    report = failure(session.range(3).map(lambda x: (i for i in range(x))))
    assert report.function == "map" and "type generator" in report.message


def test_a_record_whose_repr_fails_does_not_hide_the_failure(session: Any) -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    report = failure(session.from_items([1]).map(lambda _: Silent()).group_by_key())
    assert "group_by_key() takes" in report.message or "Silent" in report.message


def test_steps_without_end_do_not_recurse_without_end(session: gm.Session) -> None:
    chain = session.range(3)
    for _ in range(700):
        chain = chain.map_partitions(list).map(str).map(int)
    assert chain.collect() == [0, 1, 2]
    union = session.range(1)
    for _ in range(300):
        union = union.union(session.range(1))
    assert union.explain() and union.count() == 301
