"""Stage keys: equal for the same work, different for any other; and what is different, in words."""

from __future__ import annotations

import pytest

from gristmill.plan.build import StepShape, build_plan
from gristmill.plan.keys import stage_keys, what_changed

INGREDIENTS = {
    "source count.py": "aa",
    "input /in/a.txt": "5 bytes",
    "option --reducers": "4",
    "parameter x": "1",
    "version Python": "3.11",
}


def keys(reducers: int = 4, format: str = "text", combines: bool = False, **changed: str) -> tuple[str, ...]:
    plan = build_plan([StepShape(True, combines)], reducers=reducers, output_format=format)
    return stage_keys(plan, {**INGREDIENTS, **changed})


def test_the_same_work_has_the_same_keys() -> None:
    assert keys() == keys()
    assert len(set(keys())) == 2
    reordered = dict(reversed(INGREDIENTS.items()))
    assert stage_keys(build_plan([StepShape(True)], reducers=4, output_format="text"), reordered) == keys()


@pytest.mark.parametrize("name", INGREDIENTS)
def test_every_ingredient_counts_for_every_stage(name: str) -> None:
    assert not set(keys()) & set(keys(**{name: "other"}))


def test_a_stage_follows_from_its_own_plan_and_its_parents() -> None:
    assert keys(format="csv")[0] == keys()[0]
    assert keys(format="csv")[1] != keys()[1]
    for other in (keys(reducers=5), keys(combines=True)):
        assert not set(other) & set(keys())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"source count.py": "bb"}, "count.py has changed"),
        ({"source helper.py": "bb"}, "helper.py is new"),
        ({"source count.py": None}, "count.py is gone"),
        ({"input /in/a.txt": "6 bytes"}, "the input /in/a.txt has changed"),
        ({"input /in/a.txt": None}, "the input /in/a.txt is gone"),
        ({"option --reducers": "8"}, "--reducers has changed from 4 to 8"),
        ({"option --reducers": ""}, "--reducers has changed from 4 to not given"),
        ({"parameter x": None}, "the parameter x has changed from 1 to not given"),
        ({"version Python": "3.12"}, "Python has changed from 3.11 to 3.12"),
        (
            {"version Python": "3.12", "parameter x": "2", "option --reducers": "8", "source count.py": "bb"},
            "count.py has changed, --reducers has changed from 4 to 8, the parameter x has changed from 1 to 2 "
            "and 1 more",
        ),
    ],
    ids=lambda value: "",
)
def test_what_is_different_in_words(changed: dict[str, str | None], words: str) -> None:
    new = {name: value for name, value in {**INGREDIENTS, **changed}.items() if value is not None}
    assert what_changed(INGREDIENTS, new) == words
