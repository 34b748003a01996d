"""The MapReduce class without running anything: options, parameters, roles, and what importing costs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gristmill
from gristmill import MapReduce, UsageError
from gristmill.api.loading import job_of_class
from gristmill.api.mapreduce import _TYPES, ROLES, RunOptions, parse_options
from gristmill.config import JobOptions


class Count(MapReduce):
    params = {"least": 1}  # noqa: RUF012

    def mapper(self, key: Any, value: str) -> Iterator[tuple[str, int]]:
        self.counter("lines", "seen")
        yield value, self.params["least"]

    def reducer(self, key: str, values: Iterator[int]) -> list[tuple[str, int]]:
        return [(key, sum(values))]


def test_options_are_parsed(tmp_path: Path) -> None:
    options = parse_options(
        RunOptions(
            memory="2GiB",
            split_size=1000,
            task_timeout="2m",
            data_dir=str(tmp_path),
            reducers=None,
            combiner=False,
            params={"k": 1},
        )
    )
    expected = JobOptions(
        memory_bytes=2 * 1024**3,
        split_bytes=1000,
        task_timeout_seconds=120.0,
        data_dir=tmp_path,
        combiner=False,
        params={"k": 1},
    )
    assert options == expected


def test_options_are_those_that_are_described() -> None:
    assert set(_TYPES) == set(RunOptions.__annotations__) - {"progress"}, "that one is not the job's"
    options = parse_options({"max_processes": 9, "max_file_size": "1MiB", "place_timeout": "5m"})
    assert (options.max_processes, options.max_file_bytes, options.place_timeout_seconds) == (9, 1 << 20, 300.0)
    _, _, text = (gristmill.Session.__doc__ or "").partition("options:")
    assert set(re.findall("``([a-z_]+)``", text)) - {"progress"} < set(_TYPES)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UsageError, match=r"There is no option executers\. Did you mean executors\?"):
        parse_options({"executers": 2})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(UsageError, match="is not a size"):
        parse_options({"memory": "much"})


def test_an_instance_can_be_tried_by_hand() -> None:
    job = Count()
    assert list(job.mapper(None, "a")) == [("a", 1)]
    assert job.reducer("a", iter([1, 2])) == [("a", 3)]
    assert Count.with_params({"least": 5}).params == {"least": 5}
    assert Count().params == {"least": 1}


def test_roles_are_those_of_a_step() -> None:
    assert all(hasattr(MapReduce, role) for role in ROLES)
    step = job_of_class(Count).code.steps[0]
    assert {role for role in ROLES if getattr(step, role) is not None} == {"mapper", "reducer"}


def test_what_is_public() -> None:
    for name in gristmill.__all__:
        assert getattr(gristmill, name) is not None
    assert set(gristmill.__all__) <= set(dir(gristmill))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gristmill.nothing


def test_importing_is_cheap() -> None:
    heavy = ("pyarrow", "rich", "psutil", "cloudpickle", "click", "asyncio")
    script = f"import sys, gristmill; gristmill.MapReduce; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
