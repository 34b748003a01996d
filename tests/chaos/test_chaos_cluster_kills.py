"""Executors, agents and the server are killed every few seconds; the client waits, and gets the right result."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cluster_jobs
import pytest
from chaos_cluster_jobs import Spread, expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Havoc, Site, read_rows, site, split_size
from chaos_kit import Command, read_output
from cluster_jobs import counts_in, write_words

from gristmill.runtime.journal.facts import TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

SEEDS = 20
NUMBERS = 10_000_000
TASKS = 100
SMALL = 24_000
REDUCERS = 200


def check(output: Path, calm: Path, numbers: int, keys: int) -> None:
    """The output is what arithmetic says, and byte for byte that of a run that nobody disturbed."""
    assert {int(key): value for key, value in read_rows(output).items()} == expected_spread(numbers, keys)
    assert read_output(output) == read_output(calm)


@pytest.mark.parametrize(("seed", "rounds"), [(0, 1), *(pytest.param(n, 2, marks=pytest.mark.soak) for n in range(12))])
def test_whoever_is_killed_nothing_is_lost(seed: int, rounds: int, tmp_path: Path) -> None:
    numbers, keys, tasks = 240_000, 1009, 12 + 12 * rounds
    ranges = write_ranges(tmp_path / "ranges.txt", numbers, 240)
    options = [*split_size(ranges, tasks), "--reducers", "12"]
    size = int(options[1])
    Spread.run(ranges, tmp_path / "calm", on="inline", reducers=12, split_size=size, params={"keys": str(keys)})
    with site(tmp_path, workers=3, executors=1, beat="0.2s", limit="1.5s") as s:
        params = ["--set", f"keys={keys}", "--set", "pause=0.25"]
        client = s.run(f"{CLUSTER_JOBS}:Spread", ranges, tmp_path / "out", *options, *params)
        with Havoc(s, seed, (0.3, 1.0), ["executor", "executor", "agent", "executor", "server"], rounds) as havoc:
            s.finish(client)
        assert all(havoc.kills[kind] for kind in ("executor", "agent", "server")), havoc.kills
        check(tmp_path / "out", tmp_path / "calm", numbers, keys)
        s.assert_clean(tmp_path)
        s.end()


@pytest.mark.soak
def test_what_was_done_before_a_server_was_killed_is_not_done_again(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with site(tmp_path, workers=2, limit="5s") as s:
        options = ["--split-size", "4KiB", "--reducers", "4", "--no-speculation", "--set", "gate=yes"]
        job = f"{cluster_jobs.__file__}:SlowMaps"
        client = s.run(job, words, tmp_path / "out", *options, "--set", f"folder={tmp_path}")
        s.wait_until(lambda: len(list(tmp_path.glob("reduce-*"))) == 2)
        maps = len(list(tmp_path.glob("map-*")))
        s.wait_until(lambda: noted(s) == maps)
        s.kill_server()
        s.start_server()
        s.wait_until(lambda: len(list(tmp_path.glob("reduce-*"))) == 4)  # those of the new epoch
        (tmp_path / "gate").touch()
        s.finish(client)
        assert counts_in(tmp_path / "out") == expected
        assert len(list(tmp_path.glob("map-*"))) == maps, "their blocks were kept: no map task ran again"
        s.assert_clean(tmp_path)
        s.end()


def noted(s: Site) -> int:
    """How many tasks are done, as the server's journal says."""
    return sum(isinstance(fact, TaskDone) for fact in Journal(s.data_dir / JOURNAL).facts())


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_a_server_and_the_worker_of_its_own(seed: int, tmp_path: Path) -> None:
    numbers, keys = 240_000, 1009
    ranges = write_ranges(tmp_path / "ranges.txt", numbers, 240)
    with site(tmp_path, own_executors=2, limit="3s") as s:
        options = [*split_size(ranges, 36), "--reducers", "12", "--set", f"keys={keys}", "--set", "pause=0.25"]
        client = s.run(f"{CLUSTER_JOBS}:Spread", ranges, tmp_path / "out", *options)
        with Havoc(s, seed, (0.5, 3.0), ["own_worker", "server"], rounds=3) as havoc:
            s.finish(client, 110)
        assert havoc.kills["own worker"] and havoc.kills["server"], havoc.kills
        assert {int(key): value for key, value in read_rows(tmp_path / "out").items()} == expected_spread(numbers, keys)
        s.assert_clean(tmp_path)
        s.wait_until(lambda: not list((s.data_dir / "worker/jobs").glob("*")))
        s.end()


def begin_small(s: Site, *options: str) -> Command:
    """A job of 24 map tasks and 4 reduce tasks."""
    ranges = write_ranges(s.folder / "ranges.txt", SMALL, 240)
    fine = [*split_size(ranges, 24), "--reducers", "4", "--set", "keys=101", *options]
    return s.run(f"{CLUSTER_JOBS}:Spread", ranges, s.folder / "out", *fine)


def check_small(s: Site) -> None:
    rows = {int(key): value for key, value in read_rows(s.folder / "out").items()}
    assert rows == expected_spread(SMALL, 101)
    s.assert_clean(s.folder)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_is_killed_while_it_commits(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with site(tmp_path, workers=2) as s:
        client = begin_small(s, "--set", "pause=0.02")
        while not any(tmp_path.glob(".out.gristmill-*/final")) and client.process.poll() is None:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        s.kill_server()
        s.start_server()
        s.finish(client)
        check_small(s)
        s.end()


@pytest.mark.soak
@pytest.mark.parametrize("emptied", [False, True])
def test_the_folder_of_a_job_whose_server_was_killed_as_it_ended(emptied: bool, tmp_path: Path) -> None:
    with site(tmp_path, workers=1) as s:
        client = begin_small(s, "--set", "pause=0.05")
        s.wait_until(s.blocks)
        [folder] = (s.data_dir / "jobs").iterdir()
        shutil.copytree(folder, tmp_path / "copy")
        s.finish(client)
        s.kill_server()
        (tmp_path / "copy").rename(folder)  # as if it had been killed before it removed it, or while it did
        if emptied:
            shutil.rmtree(folder)
            folder.mkdir()
        s.start_server()
        check_small(s)
        s.end()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(6))
def test_everybody_is_killed_at_once(seed: int, tmp_path: Path) -> None:
    """Nobody waits any more. The server and the workers are started again, and the job goes on where it stood."""
    chance = random.Random(seed)
    with site(tmp_path, workers=2) as s:
        begin_small(s, "--set", "pause=0.1")
        s.wait_until(s.blocks)
        time.sleep(chance.uniform(0, 1.5))
        s.kill_all()
        s.start_server()
        for worker in s.workers:
            worker.start()
        s.wait_until(lambda: (tmp_path / "out").exists())
        check_small(s)
        s.end()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The large input, and the output of a run on it that nobody disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    ranges = write_ranges(folder / "ranges.txt", NUMBERS, 1000)
    size = ranges.stat().st_size // TASKS
    Spread.run(ranges, folder / "out", reducers=REDUCERS, split_size=size, data_dir=folder / "data")
    return ranges, folder / "out"


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_ten_million_rows_and_two_hundred_partitions(
    seed: int, calm: tuple[Path, Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    ranges, undisturbed = calm
    with site(tmp_path, workers=3, executors=1, beat="0.5s", limit="3s") as s:
        options = [*split_size(ranges, TASKS), "--reducers", str(REDUCERS)]
        client = s.run(f"{CLUSTER_JOBS}:Spread", ranges, tmp_path / "out", *options)
        began = time.monotonic()
        with Havoc(s, seed, (2.0, 4.0), ["executor", "executor", "executor", "agent", "server"]) as havoc:
            summary = s.finish(client, 600)
        seconds = time.monotonic() - began
        check(tmp_path / "out", undisturbed, NUMBERS, 100_003)
        s.assert_clean(tmp_path)
        s.end()
    kills = ", ".join(f"{kind} {havoc.kills[kind]}" for kind in ("executor", "agent", "server"))
    record_property("note", f"seed {seed}: {seconds:.0f} s; killed: {kills}; {summary['attempts']} attempts")
    assert all(havoc.kills[kind] for kind in ("executor", "agent", "server")), havoc.kills
