"""Chains of several operations, drawn by Hypothesis: a small grammar in which every sentence means something.

A chain is a program over numbered datasets: each step makes the next one of one or two that are there, so there are
branches that share what came before. It is made together with what its model gives: the model says what may be asked of
the dataset (its order, if it has one), and when it grows too large. What is drawn are numbers, which choose among what
is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dataset_functions as f
from dataset_cases import assert_equal
from dataset_model import Model
from dataset_values import Parts, alike, digest, exact, partitioned, pools, shown, values
from hypothesis import strategies as st

MAX_ROWS = 120
MAX_CHARS = 20_000  # of what a dataset holds, as repr shows it


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        text: for people: ``d3 = d1.join(d2)``.
        takes: the numbers of the datasets that it takes.
        apply: does it, to datasets or to models.
    """

    text: str
    takes: tuple[int, ...]
    apply: Callable[..., Any]

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Chain:
    """A program.

    Attributes:
        data: the partitions of the datasets that it begins with.
        steps: what is made of them.
        end: an action.
        form: how what the action gives is compared.
    """

    data: tuple[Parts, ...]
    steps: tuple[Step, ...]
    end: Step
    form: Callable[[Any], list[Any]]

    def run(self, sources: Sequence[Any]) -> Any:
        """What the action gives; ``sources`` are datasets, or their models."""
        made = list(sources)
        for step in self.steps:
            made.append(step.apply(*(made[place] for place in step.takes)))
        return self.end.apply(*(made[place] for place in self.end.takes))

    def check(self, got: Any) -> None:
        """Compare what came with what the model says."""
        expected = self.run([Model(parts) for parts in self.data])
        assert_equal(self.form(got), self.form(expected))

    def __repr__(self) -> str:
        lines = [f"d{place} = {parts!r}" for place, parts in enumerate(self.data)]
        return "\n    ".join(["", *lines, *(step.text for step in self.steps), self.end.text])


@dataclass(frozen=True)
class Drawn:
    """A dataset of a chain that is being drawn: what it is by its model, and of what its elements are."""

    model: Model
    kind: str  # "any", "key" or "pair"


class Dice(NamedTuple):
    """What was drawn for a step: numbers that choose among as many things as there are."""

    rule: int
    first: int
    second: int
    partitions: int
    other: int

    @property
    def n(self) -> int | None:
        """A number of partitions; None: it is left to the size of the input."""
        return (None, 1, 2, 3)[self.partitions % 4]


# An operation takes the models, and gives the text, the function and the kind of what comes out; or None, if it is not
# for these.
Found = tuple[str, Callable[..., Any], str] | None
Rule = Callable[[Dice, Sequence[Drawn]], Found]


def _plain(text: str, apply: Callable[[Any], Any], kind: str = "", of: str = "") -> Rule:
    """An operation without arguments, on datasets of a kind; it gives that kind, or another."""

    def rule(_dice: Dice, operands: Sequence[Drawn]) -> Found:
        [operand] = operands
        return (text, apply, kind or operand.kind) if of in ("", operand.kind) else None

    return rule


def _placed(text: str, apply: Callable[[Any], Any]) -> Rule:
    def rule(_dice: Dice, operands: Sequence[Drawn]) -> Found:
        return (text, apply, "any") if operands[0].model.placed else None

    return rule


def _in_order(text: str, apply: Callable[[Any], Any], kind: str, of: str = "") -> Rule:
    def rule(_dice: Dice, operands: Sequence[Drawn]) -> Found:
        [operand] = operands
        return (text, apply, kind) if operand.model.ordered and of in ("", operand.kind) else None

    return rule


def _by_key(text: str, apply: Callable[[Any, int | None], Any], of: str = "pair", kind: str = "pair") -> Rule:
    """An exchange: the number of partitions is drawn, or left to the size of the input."""

    def rule(dice: Dice, operands: Sequence[Drawn]) -> Found:
        [operand] = operands
        n = dice.n
        return (f"{text} in {n}", lambda d: apply(d, n), kind) if of in ("", operand.kind) else None

    return rule


def _by_key_in_order(text: str, apply: Callable[[Any, int | None], Any], of: str = "pair") -> Rule:
    inner = _by_key(text, apply, of)

    def rule(dice: Dice, operands: Sequence[Drawn]) -> Found:
        found = inner(dice, operands)
        return found if operands[0].model.ordered else None

    return rule


def _grouped(text: str, apply: Callable[..., Any], of: str = "pair", lists: Callable[[Any], Any] = list) -> Rule:
    """As an exchange; what it puts into lists is sorted if it was in no order before."""

    def rule(dice: Dice, operands: Sequence[Drawn]) -> Found:
        if any(of not in ("", operand.kind) for operand in operands):
            return None
        n = dice.n
        known = all(operand.model.ordered and operand.model.typed for operand in operands)
        put = list if known else f.sorted_alike
        form = put if lists is list else (lambda sides: [put(side) for side in sides])
        return f"{text} in {n}", lambda *ds: apply(*ds, n).map_values(form), "pair"

    return rule


def _two(text: str, apply: Callable[[Any, Any, Any], Any], of: str, kind: str = "") -> Rule:
    def rule(dice: Dice, operands: Sequence[Drawn]) -> Found:
        one, other = operands
        n = dice.n
        if one.kind != other.kind or of not in ("", one.kind):
            return None
        return f"{text} in {n}", lambda d, e: apply(d, e, n), kind or one.kind

    return rule


def _sort(dice: Dice, operands: Sequence[Drawn]) -> Found:
    """By something that tells all elements apart, or not."""
    [operand] = operands
    descending, n = dice.other % 2 == 1, dice.n
    by = _chosen(["small", "digest", *(["itself"] if operand.kind == "key" else [])], dice.second)
    key = {"small": f.small, "digest": digest, "itself": _itself}[by]

    def apply(d: Any) -> Any:
        made = d.sort_by(key, descending=descending, partitions=n)
        if isinstance(made, Model) and by != "small" and not made.ordered:
            return Model(made.parts, placed=False, typed=False)  # those that are equal are alike
        return made

    return f"sort_by({by}, {descending=}) in {n}", apply, operand.kind


def _zip(dice: Dice, operands: Sequence[Drawn]) -> Found:
    one, other = operands
    if not (one.model.ordered and other.model.ordered and len(one.model) == len(other.model)):
        return None
    return "zip", lambda d, e: d.zip(e), "any"


def _chosen(among: Sequence[Any], number: int) -> Any:
    return among[number % len(among)]


def _itself(value: Any) -> Any:
    return value


def _wrapped(value: Any) -> list[Any]:
    return [value]


def _alone(value: Any) -> frozenset[int]:
    return frozenset({digest(value)})


def _either(left: frozenset[int], right: frozenset[int]) -> frozenset[int]:
    return left | right


def _left(left: Any, _right: Any) -> Any:
    return left


def _with_digest(value: Any) -> tuple[Any, int]:
    return value, digest(value)


def _backwards(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    return pair[1], pair[0]


NARROW: tuple[Rule, ...] = (
    _plain("map(small)", lambda d: d.map(f.small), "key"),
    _plain("map(mixed_key)", lambda d: d.map(f.mixed_key), "key"),
    _plain("map(list of it)", lambda d: d.map(_wrapped), "any"),
    _plain("map(with digest)", lambda d: d.map(_with_digest), "pair", "key"),
    _plain("flat_map(twice)", lambda d: d.flat_map(f.twice)),
    _plain("filter(odd)", lambda d: d.filter(f.odd)),
    _plain("cache", lambda d: d.cache()),
    _plain("sample(1.0)", lambda d: d.sample(1.0)),
    _plain("repartition(2)", lambda d: d.repartition(2)),
    _plain("coalesce(2)", lambda d: d.coalesce(2)),
    _plain("key_by(small)", lambda d: d.key_by(f.small), "pair"),
    _plain("key_by(mixed_key)", lambda d: d.key_by(f.mixed_key), "pair"),
    _plain("map_values(list of it)", lambda d: d.map_values(_wrapped), "pair", "pair"),
    _plain("map_values(digest)", lambda d: d.map_values(digest), "pair", "pair"),
    _plain("flat_map_values(twice)", lambda d: d.flat_map_values(f.twice), "pair", "pair"),
    _plain("keys", lambda d: d.keys(), "key", "pair"),
    _plain("values", lambda d: d.values(), "any", "pair"),
    _plain("map_partitions(iter)", lambda d: d.map_partitions(iter)),
    _placed("map_partitions(counted)", lambda d: d.map_partitions(f.counted)),
    _placed("map_partitions(first_two)", lambda d: d.map_partitions(f.first_two)),
    _placed("glom", lambda d: d.glom()),
    _in_order("zip_with_index", lambda d: d.zip_with_index(), "any"),
    _in_order("zip_with_index of keys", lambda d: d.zip_with_index(), "pair", "key"),
    _in_order("zip_with_index, turned", lambda d: d.zip_with_index().map(_backwards), "pair"),
)
KEYED: tuple[Rule, ...] = (
    _sort,
    _by_key("sort_by_key", lambda d, n: d.sort_by_key(partitions=n)),
    _by_key("sort_by_key descending", lambda d, n: d.sort_by_key(descending=True, partitions=n)),
    _by_key("distinct", lambda d, n: d.distinct(partitions=n), "key", "key"),
    _by_key("partition_by", lambda d, n: d.partition_by(n or 4)),
    _by_key("reduce_by_key(add)", lambda d, n: d.map_values(digest).reduce_by_key(f.add, partitions=n)),
    _by_key("reduce_by_key(either)", lambda d, n: d.map_values(_alone).reduce_by_key(_either, partitions=n)),
    _by_key("fold_by_key(0, add)", lambda d, n: d.map_values(digest).fold_by_key(0, f.add, partitions=n)),
    _by_key_in_order("reduce_by_key(together)", lambda d, n: f.lists(d).reduce_by_key(f.together, partitions=n)),
    _by_key_in_order("reduce_by_key(left)", lambda d, n: d.reduce_by_key(_left, partitions=n)),
    _by_key_in_order("aggregate_by_key", lambda d, n: d.aggregate_by_key([], f.appended, f.extended, partitions=n)),
    _grouped("group_by_key", lambda d, n: d.group_by_key(partitions=n)),
    _grouped("group_by(mixed_key)", lambda d, n: d.group_by(f.mixed_key, partitions=n), ""),
)  # fmt: skip
ONE = NARROW + KEYED + KEYED
TWO: tuple[Rule, ...] = (
    _two("union", lambda d, e, n: d.union(e), ""),
    _two("join", lambda d, e, n: d.join(e, partitions=n), "pair"),
    _two("left_join", lambda d, e, n: d.left_join(e, partitions=n), "pair"),
    _two("right_join", lambda d, e, n: d.right_join(e, partitions=n), "pair"),
    _two("outer_join", lambda d, e, n: d.outer_join(e, partitions=n), "pair"),
    _two("subtract_by_key", lambda d, e, n: d.subtract_by_key(e, partitions=n), "pair"),
    _two("subtract", lambda d, e, n: d.subtract(e, partitions=n), "key"),
    _two("intersection", lambda d, e, n: d.intersection(e, partitions=n), "key"),
    _two("cartesian", lambda d, e, n: d.cartesian(e), "", "any"),
    _grouped("cogroup", lambda d, e, n: d.cogroup(e, partitions=n), lists=tuple),
    _zip,
)

ENDS: tuple[Rule, ...] = (
    *[_plain("collect", lambda d: d.collect())] * 9,
    _plain("count", lambda d: [d.count()]),
    _plain("top", lambda d: d.top(3, key=digest)),
    _plain("sum", lambda d: [d.map(digest).sum()]),
    _in_order("take(3)", lambda d: d.take(3), ""),
    _in_order("iterate", lambda d: list(d.iterate()), ""),
    _placed("aggregate", lambda d: d.aggregate([], f.appended, f.extended)),
    _plain("count_by_value", lambda d: list(d.count_by_value().items()), "", "key"),
    _plain("count_by_key", lambda d: list(d.count_by_key().items()), "", "pair"),
)  # fmt: skip


_numbers = st.integers(0, 999)


@st.composite
def chains(draw: st.DrawFn, most: int = 6) -> Chain:
    """Chains of up to so many steps."""
    # The steps are drawn before the data: large data would leave no steps to draw.
    drawn = draw(st.lists(st.builds(Dice, *[_numbers] * len(Dice._fields)), min_size=3, max_size=most))
    ending = draw(_numbers)
    pool = draw(pools())
    pairs = partitioned(st.tuples(st.sampled_from(pool), st.sampled_from(pool) | values()), 3, 4)
    data: list[Parts] = [draw(partitioned(st.sampled_from(pool), 3, 4)), draw(pairs), draw(pairs)]
    made = [Drawn(Model(parts), kind) for parts, kind in zip(data, ("key", "pair", "pair"), strict=True)]
    steps = [step for dice in drawn if (step := _stepped(dice, made)) is not None]
    last = made[-1]
    text, apply, _ = _chosen([found for rule in ENDS if (found := rule(Dice(0, 0, 0, 0, 0), [last]))], ending)
    end = Step(f"d{len(made) - 1}.{text}", (len(made) - 1,), apply)
    counts = text.startswith("count_by")  # the keys of a dict are in no order, and any of equal ones
    one = exact if last.model.typed and not counts else alike
    ordered = last.model.ordered and not counts
    return Chain(tuple(data), tuple(steps), end, _listed(one) if ordered or text == "top" else _heaped(one))


def _stepped(dice: Dice, made: list[Drawn]) -> Step | None:
    """One more step, and what it makes; nothing if that is too large."""
    last = len(made) - 1
    one = _chosen([last, last, last, *range(last)], dice.first)
    other = _chosen([place for place, drawn in enumerate(made) if drawn.kind == made[one].kind], dice.second)
    possible = [((one,), rule(dice, [made[one]])) for rule in ONE]
    possible += [((one, other), rule(dice, [made[one], made[other]])) for rule in TWO + TWO + TWO]
    places, (text, apply, kind) = _chosen([(places, found) for places, found in possible if found], dice.rule)
    model = apply(*(made[place].model for place in places))
    if len(model) > MAX_ROWS or len(repr(model.rows)) > MAX_CHARS:
        return None
    others = "".join(f"(d{place})" for place in places[1:])
    step = Step(f"d{len(made)} = d{places[0]}.{text}{others}", places, apply)
    made.append(Drawn(model, kind))
    return step


def _listed(form: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: list(map(form, rows))


def _heaped(form: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: shown(rows, form)
