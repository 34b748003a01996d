"""How often actors are called: calls are gathered, so it is time that bounds their number, and not the tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_kit import RayCluster, ray_marks

import gristmill as gm

pytestmark = ray_marks

TASKS = 1000
CALLS_A_SECOND = 400  # of an actor, at most, both ways: what is said is gathered for 5 ms


@pytest.mark.soak
def test_a_thousand_empty_tasks_take_few_calls(
    on_ray: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    from gristmill.fleets.ray import crew

    insist, calls = crew._insist, []

    async def counted(call: Callable[[], Any]) -> Any:
        calls.append(call)
        return await insist(call)

    monkeypatch.setattr(crew, "_insist", counted)
    with gm.Session(on="ray", executors=2, data_dir=tmp_path) as session:
        assert session.range(2, partitions=2).count() == 2  # members are there
        calls.clear()
        began = time.monotonic()
        assert session.range(TASKS, partitions=TASKS).count() == TASKS
        took, made = time.monotonic() - began, len(calls)
    record_property("note", f"{TASKS:,} empty tasks took {made:,} calls in {took:.1f} s")
    assert 0 < made < max(200, 2 * CALLS_A_SECOND * took), took
