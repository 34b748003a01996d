"""User code that is hard on a cluster: it holds the interpreter's lock, or says something else each time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from chaos_cluster_kit import CLUSTER_JOBS, Site, read_rows, site

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

KEYS = 40


@pytest.mark.soak
@pytest.mark.parametrize(
    ("seconds", "limits"),
    [
        pytest.param(3, {"beat": "0.2s", "limit": "1s"}, id="short"),
        pytest.param(
            120, {"beat": "1s", "limit": "10s"}, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(300)]
        ),
    ],
)
@pytest.mark.timeout(300)
def test_code_that_holds_the_lock_is_not_taken_for_dead(seconds: int, limits: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    with site(tmp_path, workers=2, **limits) as s:
        options = ["--split-size", "4", "--set", f"seconds={seconds}"]
        client = s.run(f"{CLUSTER_JOBS}:HoldsTheGil", tmp_path / "in.txt", tmp_path / "out", *options)
        summary = s.finish(client, seconds + 60)
        assert read_rows(tmp_path / "out") == {"one": str(seconds), "two": str(seconds)}
        assert (summary["attempts"], summary["failed_attempts"]) == (2, 0)
        assert "again" not in s.said()
        s.end()


def moody(s: Site, inputs: Path, **params: float) -> None:
    """Run Moody, and kill an agent when the first of four waves of reducers is over."""
    sets = [word for name, value in params.items() for word in ("--set", f"{name}={value}")]
    fine = ["--split-size", "2", "--reducers", "12", "--no-speculation"]
    client = s.run(f"{CLUSTER_JOBS}:Moody", inputs, s.folder / "out", *fine, *sets)
    s.wait_until(lambda: len(s.staged()) >= 4)
    victim = next(worker for worker in s.workers if worker.blocks())
    victim.kill()
    victim.forget()
    summary = s.finish(client)
    assert summary["attempts"] > summary["map_tasks"] + summary["reduce_tasks"] + 4, "finished reducers ran again, too"


@pytest.mark.parametrize("round", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 6))])
def test_data_that_came_out_otherwise_is_never_mixed(round: int, tmp_path: Path) -> None:
    lines = [str(number) for number in range(6)]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    with site(tmp_path, workers=3, beat="0.2s", limit="1s") as s:
        moody(s, tmp_path / "in.txt", pause=0.4)
        runs: dict[str, set[str]] = defaultdict(set)
        seen: dict[str, list[str]] = defaultdict(list)
        for part in (tmp_path / "out").glob("part-*"):
            for row in part.read_text().splitlines():
                key, value = row.split("\t")
                line, run = value.split("=")
                runs[line].add(run)
                seen[key].append(line)
        assert {line: len(found) for line, found in runs.items()} == dict.fromkeys(lines, 1)
        assert seen == {str(key): lines for key in range(KEYS)}
        s.assert_clean(tmp_path)
        s.end()
