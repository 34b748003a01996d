"""Jobs reach a Ray cluster through Ray Client, and do there what they do elsewhere.

Ray's server for clients forks while its other threads run, and now and then what it has forked does not come up: then
connecting takes half a minute longer. So none of these are among the quick tests.
"""

from __future__ import annotations

import time
from operator import add
from pathlib import Path

import pytest
from cluster_jobs import SlowMaps, WordCount, counts_in, write_words
from ray_kit import RayCluster, ray_marks

import gristmill as gm
from gristmill.errors import JobCancelled, JobFailed

pytestmark = [*ray_marks, pytest.mark.soak]
PATIENCE = 60.0


def test_a_session_through_ray_client(
    on_ray: RayCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    path, expected = write_words(tmp_path, lines=500)
    with gm.Session(on=on_ray.client, data_dir=tmp_path / "data") as session:
        words = session.read_text(path).flat_map(str.split).map(lambda word: (word, 1)).cache()
        assert dict(words.reduce_by_key(add).collect()) == expected
        assert words.count() == expected.total()
        with pytest.raises(JobFailed, match="division by zero") as caught:
            words.map(lambda pair: pair[1] / 0).count()
        assert caught.value.report is not None and caught.value.report.frames[-1].file == __file__
    assert capfd.readouterr() == ("", "")


def test_a_job_through_ray_client(on_ray: RayCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, expected = write_words(tmp_path)
    wanted = WordCount.run(path, tmp_path / "here", on="inline", reducers=3, split_size=20_000)
    WordCount.run(path, tmp_path / "out", on=on_ray.client, reducers=3, split_size=20_000, data_dir=tmp_path / "data")
    assert counts_in(tmp_path / "out") == expected
    for part in sorted((tmp_path / "here").glob("part-*")):
        assert (tmp_path / "out" / part.name).read_bytes() == part.read_bytes()
    assert wanted.summary()["records_out"] == len(expected)
    with gm.Session(on=on_ray.client, data_dir=tmp_path / "data") as again:
        assert again.range(5).collect() == [0, 1, 2, 3, 4]
    assert capfd.readouterr() == ("", "")


def test_a_job_through_ray_client_is_cancelled(
    on_ray: RayCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, _ = write_words(tmp_path)
    begun = tmp_path / "begun"
    begun.mkdir()
    params = {"folder": str(begun), "gate": True}
    options = {"on": on_ray.client, "data_dir": tmp_path / "data", "params": params}
    with SlowMaps.start(path, tmp_path / "out", **options) as handle:  # type: ignore[arg-type]
        deadline = time.monotonic() + PATIENCE
        while not list(begun.glob("reduce-*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        handle.cancel()
        with pytest.raises(JobCancelled):
            handle.wait(PATIENCE)
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr() == ("", "")
