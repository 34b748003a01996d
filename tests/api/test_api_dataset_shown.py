"""Datasets as people see them: nothing is computed for it."""

from __future__ import annotations

from operator import add
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import gristmill as gm


class Unopened(gm.Session):
    """A session that must not be used."""

    def _opened(self) -> Any:
        raise AssertionError("something was computed")


@pytest.fixture
def chain() -> gm.Dataset[tuple[str, int]]:
    lines = Unopened(on="inline").read_text("no/such/file.txt")
    return lines.flat_map(str.split).map(lambda word: (word, 1)).reduce_by_key(add)


def test_a_repr_names_the_steps(chain: gm.Dataset[Any]) -> None:
    assert "not computed: read_text no/such/file.txt → flat_map → map → reduce_by_key" in repr(chain)
    assert repr(gm.range(3)).startswith("<Dataset[int], not computed: range")


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        (lambda: gm.read_text("x"), "str"),
        (lambda: gm.from_items([("a", 1)]), "tuple[str, int]"),
        (lambda: gm.from_items([None]), "NoneType"),
        (lambda: gm.from_items([]), ""),
        (lambda: gm.from_arrow(pa.table({"a": [1], "b": ["x"]})), "dict(a: int64, b: string)"),
        (lambda: gm.read_parquet("x"), "dict"),
        (lambda: gm.range(3).map(float), "float"),
        (lambda: gm.range(3).map(lambda x: x), ""),
        (lambda: gm.range(3).filter(bool).sample(0.5).repartition(2), "int"),
        (lambda: gm.range(3).glom(), "list[int]"),
        (lambda: gm.range(3).union(gm.range(4)), "int"),
        (lambda: gm.range(3).union(gm.read_text("x")), ""),
        (lambda: gm.read_text("x").zip_with_index(), "tuple[str, int]"),
    ],
)
def test_the_kind_of_elements_is_shown_as_far_as_it_is_known(dataset: Any, kind: str) -> None:
    assert repr(dataset()).startswith(f"<Dataset[{kind}]," if kind else "<Dataset,")


def test_a_function_says_what_it_returns() -> None:
    def length(text: str) -> int:
        return len(text)

    def parts(text: str) -> list[str]:
        return text.split()

    assert repr(gm.read_text("x").map(length)).startswith("<Dataset[int]")
    assert repr(gm.read_text("x").map(parts)).startswith("<Dataset[list[str]]")


def test_an_explanation_names_the_lines_of_the_caller(chain: gm.Dataset[Any]) -> None:
    text = chain.explain()
    assert text == repr(text)
    here = Path(__file__).name
    tree, _, stages = text.partition("\n\n")
    steps = [line.split()[0] for line in tree.splitlines()]
    assert steps == ["reduce_by_key", "map", "flat_map", "read_text"]
    assert all(f"{here}:" in line for line in tree.splitlines())
    assert stages.startswith("stage 0: read_text, flat_map, map")
    assert "combined, sorted by key" in stages and "stage 1: reduce_by_key" in stages


def test_a_tree_shows_all_branches() -> None:
    left, right = gm.range(3).map(str), gm.read_text("b.txt")
    tree = left.union(right).zip_with_index().explain().partition("\n\n")[0]
    assert [line.split()[0] for line in tree.splitlines()] == ["zip_with_index", "union", "map", "range", "read_text"]
    assert repr(left.union(right))
    pairs = gm.from_items([(1, 2)])
    joined = pairs.join(pairs.map_values(str)).explain().partition("\n\n")[0]
    assert [line.split()[0] for line in joined.splitlines()] == ["join", "from_items", "map_values", "from_items"]
    assert [len(line) - len(line.lstrip()) for line in joined.splitlines()] == [0, 2, 2, 2]


def test_what_is_to_be_kept_is_shown() -> None:
    numbers = gm.range(3).persist("DISK", compressed=True)
    assert numbers.storage_level == "DISK_COMPRESSED"
    assert "kept: DISK_COMPRESSED" in repr(numbers.map(str)) and "kept by the session" in numbers.map(str).explain()
    assert numbers.unpersist().storage_level == "" and "kept" not in repr(numbers)


def test_a_notebook_shows_a_table(chain: gm.Dataset[Any]) -> None:
    shown = chain.map(lambda pair: pair)._repr_html_()
    assert "not computed" in shown and "reduce_by_key" in shown and Path(__file__).name in shown
    assert "&lt;" in gm.read_text("<b>")._repr_html_() and "<b>&lt;" not in shown


def test_long_chains_are_cut() -> None:
    dataset = gm.range(3)
    for _ in range(50):
        dataset = dataset.map(lambda x: x).filter(bool)
    assert len(repr(dataset)) < 2000
    assert "more steps" in dataset.explain()
