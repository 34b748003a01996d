"""Apps of the taught design: ``map_func`` and ``reduce_func``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.api.job import run_job
from gristmill.api.mr import load_app
from gristmill.config import JobOptions
from gristmill.errors import JobNotFound

IN_A_CLASS = """
from gristmill import KeyValue

class WordCount:
    def map_func(self, filename, content):
        return [KeyValue(word, "1") for word in content.split()]

    def reduce_func(self, key, values):
        return str(len(values))
"""
IN_THE_MODULE = """
def map_func(filename, content):
    return [(word, filename.rsplit("/", 1)[-1]) for word in content.split()]

def reduce_func(key, values):
    return ",".join(sorted(values))
"""


def lines_of(tmp_path: Path, app: str) -> list[str]:
    (tmp_path / "app.py").write_text(app)
    for name, text in (("a", "to be or"), ("b", "not to be")):
        (tmp_path / name).write_text(text)
    job = load_app(tmp_path / "app.py")
    options = JobOptions(on="inline", input_format="whole", split_bytes=1, reducers=2, data_dir=tmp_path / "data")
    result = run_job(job, [tmp_path / "a", tmp_path / "b"], tmp_path / "out", options)
    assert result.summary()["map_tasks"] == 2
    parts = sorted((tmp_path / "out").glob("part-r-*"))
    assert len(parts) == 2
    return sorted(line for part in parts for line in part.read_text().splitlines())


def test_an_app_in_a_class(tmp_path: Path) -> None:
    assert lines_of(tmp_path, IN_A_CLASS) == ["be 2", "not 1", "or 1", "to 2"]


def test_an_app_of_functions_that_return_plain_pairs(tmp_path: Path) -> None:
    assert lines_of(tmp_path, IN_THE_MODULE) == ["be a,b", "not b", "or a", "to a,b"]


def test_what_is_not_an_app(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("def map_func(filename, content): ...\n")
    with pytest.raises(JobNotFound, match="reduce_func"):
        load_app(path)
    path.write_text(IN_A_CLASS + IN_A_CLASS.replace("WordCount", "Other"))
    with pytest.raises(JobNotFound, match="Other, WordCount"):
        load_app(path)
