"""Outputs that only the driver sees: nodes keep what they write of them, and the driver brings it where it belongs.

Nodes of the tests are on this machine, and see all of it. But ``/proc/self/cwd`` is another folder for each process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_kit import RayCluster, ray_marks

from gristmill import MapReduce

pytestmark = ray_marks

HERE = Path("/proc/self/cwd")


class Count(MapReduce):
    """Counts words; ``bad`` is no word."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            if word == "bad":
                raise ValueError("a bad word")
            yield word, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def written_to(folder: Path) -> dict[str, bytes]:
    """All that a job wrote, but for what says when and where that was."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "_SUCCESS"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of words; the current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.txt"
    path.write_text("".join(f"w{number % 17} w{number % 5}\n" for number in range(400)))
    return path


def test_a_result_without_a_place_and_an_output_of_the_drivers_own(on_ray: RayCluster, words: Path) -> None:
    options: dict[str, Any] = {"split_size": 500, "reducers": 3, "data_dir": HERE / "data"}
    here = Count.run(words, words.parent / "here", on="inline", **options)
    with Count.run(words, on="ray", executors=2, **options) as rows:
        assert {key: value for key, value in rows} == {key: int(value) for key, value in here}
    Count.run(words, HERE / "there", on="ray", executors=2, **options)
    assert written_to(words.parent / "there") == written_to(words.parent / "here")
    assert not list((words.parent / "data" / "jobs").iterdir())
