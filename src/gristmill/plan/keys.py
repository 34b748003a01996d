"""Stage keys: digests of all that a stage's output follows from. Equal keys mean that what is there need not be made.

A key is made of named ingredients (sources, versions, parameters, inputs, options), the stage's place in the plan and
its parents' keys. The ingredients are kept beside the keys, so that two runs that differ can be told apart in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from gristmill.plan.stages import StagePlan

Ingredients = Mapping[str, str]
"""By name: ``source count.py``, ``input /data/a.txt``, ``option --reducers``, ``parameter x``, ``version Python``."""

_SHOWN = 3


def stage_keys(plan: StagePlan, ingredients: Ingredients) -> tuple[str, ...]:
    """The key of each stage."""
    common = _digest(sorted(ingredients.items()))
    keys: list[str] = []
    for stage in plan.stages:
        branches = [[list(map(repr, branch.sources)), list(map(repr, branch.ops))] for branch in stage.branches]
        shape = [branches, type(stage.sink).__name__, asdict(stage.sink)]
        keys.append(_digest([common, stage.id, shape, [keys[parent] for parent in stage.parents]]))
    return tuple(keys)


def what_changed(old: Ingredients, new: Ingredients) -> str:
    """In which ingredients two runs differ, in words; empty if in none."""
    changes = [change for name in {**new, **old} if (change := _change(name, old.get(name), new.get(name)))]
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(changes[:_SHOWN]) + more


def _change(name: str, old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    kind, _, what = name.partition(" ")
    if kind == "option":
        return f"{what} has changed from {old or 'not given'} to {new or 'not given'}"
    if kind == "version":
        return f"{what} has changed from {old} to {new}"
    if kind == "parameter":
        return f"the parameter {what} has changed from {old or 'not given'} to {new or 'not given'}"
    verb = "is new" if old is None else "is gone" if new is None else "has changed"
    return f"the input {what} {verb}" if kind == "input" else f"{what} {verb}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
