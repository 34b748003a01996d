"""A mapper compiled into groups does what the generator does, or is left alone."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from gristmill.compute.inline import inline_mapper

FACTOR = 2


class Base:
    def words(self, line: str) -> list[str]:
        return line.split()


class Job(Base):
    extra = 1

    def words(self, line: str) -> list[str]:
        return super().words(line.lower())

    def mapper(self, key: Any, line: str) -> Iterator[tuple[Any, int]]:
        """With a docstring, a loop, a return and names of all kinds."""
        if not line:
            yield "empty", FACTOR
            return
        for place, word in enumerate(self.words(line)):
            if word != "skip":
                yield (word, place % 2), self.extra * FACTOR
        yield None, sum(1 for _ in line)

    def with_super(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in super().words(line):
            yield word, 1

    def raises(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield "before", 1
        yield "here", int(line)


def bare(key: Any, line: str, step: int = 3) -> Iterator[tuple[str, int]]:
    yield line, step


def closure(step: int) -> Any:
    def mapper(key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield line, step

    return mapper


@pytest.mark.parametrize("mapper", [Job().mapper, Job().with_super, bare, closure(7)])
@pytest.mark.parametrize("line", ["", "A b a skip", "x"])
def test_it_adds_what_the_generator_yields(mapper: Any, line: str) -> None:
    expected: dict[Any, int] = defaultdict(int)
    for key, value in mapper(None, line):
        expected[key] += value
    inlined = inline_mapper(mapper, sums=True)
    assert inlined is not None
    sums: dict[Any, int] = defaultdict(int)
    inlined[0](sums, None, line)
    assert sums == expected


def two_yields(key: Any, line: str) -> Iterator[tuple[str, Any]]:
    if line:
        yield line[0], (1, line)
    yield "all", line


def test_lists_are_appended_to() -> None:
    inlined = inline_mapper(two_yields, sums=False)
    assert inlined is not None
    mapper, yields = inlined
    groups: dict[str, list[Any]] = defaultdict(list)
    for line in ("ab", "", "ac"):
        mapper(groups, None, line)
    assert groups == {"a": [(1, "ab"), (1, "ac")], "all": ["ab", "", "ac"]}
    assert yields == 2


@pytest.mark.parametrize("mapper", [Job().mapper, Job().with_super])
def test_lists_whose_length_is_unknown_are_left_to_the_generator(mapper: Any) -> None:
    assert inline_mapper(mapper, sums=False) is None


def test_tracebacks_show_the_users_own_line() -> None:
    inlined = inline_mapper(Job().raises, sums=True)
    assert inlined is not None
    with pytest.raises(ValueError, match="invalid literal") as caught:
        inlined[0](defaultdict(int), None, "x")
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.line) == (__file__, 'yield "here", int(line)')


class Others:
    def delegates(self, key: Any, line: str) -> Iterator[Any]:
        yield from bare(key, line)

    def yields_a_name(self, key: Any, line: str) -> Iterator[Any]:
        pair = line, 1
        yield pair

    def yields_a_triple(self, key: Any, line: str) -> Iterator[Any]:
        yield line, 1, 2

    def is_answered(self, key: Any, line: str) -> Iterator[Any]:
        answer = yield line, 1
        print(answer)

    def catches(self, key: Any, line: str) -> Iterator[Any]:
        try:
            yield line, 1
        except KeyError:
            pass

    def returns(self, key: Any, line: str) -> Any:
        return [(line, 1)]

    def __mangled(self, key: Any, line: str) -> Iterator[Any]:
        yield line, self.__hidden  # type: ignore[attr-defined]

    mangled = __mangled


def decorated(function: Any) -> Any:
    return function


@decorated
def with_decorator(key: Any, line: str) -> Iterator[Any]:
    yield line, 1


def without_source() -> Any:
    scope: dict[str, Any] = {}
    exec("def mapper(key, line):\n    yield line, 1", scope)
    return scope["mapper"]


other = Others()


@pytest.mark.parametrize(
    "mapper",
    [
        None, len, other.delegates, other.yields_a_name, other.yields_a_triple, other.is_answered, other.catches,
        other.returns, other.mangled, with_decorator, without_source(), lambda key, line: (yield line, 1),
    ],
)  # fmt: skip
def test_anything_unusual_is_left_alone(mapper: Any) -> None:
    assert inline_mapper(mapper, sums=True) is None
    assert inline_mapper(mapper, sums=False) is None


def test_source_that_is_not_what_runs_is_left_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "changed_job.py"
    script.write_text("def mapper(key, line):\n    yield line, 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import changed_job  # type: ignore[import-not-found]

    script.write_text("def mapper(key, line):\n    yield line, 2\n")
    assert inline_mapper(changed_job.mapper, sums=True) is None
