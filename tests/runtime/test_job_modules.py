"""Modules of a job go with it; the engine's and its libraries' stay, wherever they lie."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import gristmill
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.executor.modules import JobModules

SPEC = JobSpec("a", b"", (), "", "", 0, 0, 0, None)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> JobModules:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return JobModules()


def test_each_job_has_its_own(modules: JobModules, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job_helper_of_a_test.py").write_text(f"NAME = {name!r}\n")
    importlib.invalidate_caches()
    for name in ("a", "b", "a"):
        modules.enter(replace(SPEC, job=name, import_paths=(str(tmp_path / name),)))
        assert importlib.import_module("job_helper_of_a_test").NAME == name
    modules.drop("a")
    modules.drop("b")
    assert "job_helper_of_a_test" not in sys.modules


def test_a_project_that_holds_the_engine_and_its_environment(modules: JobModules) -> None:
    import pyarrow

    roots = (str(Path(gristmill.__file__).parents[2]), str(Path(sys.prefix).parent))
    modules.enter(replace(SPEC, import_paths=roots))
    modules.enter(replace(SPEC, job="b"))
    modules.drop("b")
    assert sys.modules["gristmill"] is gristmill
    assert sys.modules["pyarrow"] is pyarrow
