"""Workers on machines with networks of their own: the same bytes as inline; then the network fails them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import chaos_cluster_jobs
import chaos_jobs
import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Site, read_rows, site
from chaos_kit import JOBS, Command, read_output, write_text
from netns_kit import Network, leftovers, network

NUMBERS, KEYS = 12_000, 101


@contextmanager
def machines(folder: Path, agents: int = 3, seed: int = 0, mtu: int = 9000, limit: str = "2s") -> Iterator[Site]:
    """A server and agents, each on a machine of its own; ``site.network`` is what is between them."""
    with network(agents + 1, seed=seed, mtu=mtu) as net:
        if isinstance(net, str):
            pytest.skip(net)
        here, *others = net.machines
        with site(folder, prefix=here.prefix, host=here.address, limit=limit) as s:
            for machine in others:
                s.add_worker(machine=None, prefix=machine.prefix)
            s.wait_for_executors(agents)
            s.network = net
            yield s
    assert leftovers() == []


def client_prefix(s: Site) -> tuple[str, ...]:
    net = s.network
    assert isinstance(net, Network)
    return net.machines[0].prefix


def run_three_jobs(s: Site, prefix: tuple[str, ...]) -> None:
    """Word count, inverted index and two steps: output byte for byte that of the inline fleet."""
    text = write_text(s.folder / "in", 3, 1500)
    size = sum(path.stat().st_size for path in text.iterdir()) // 9
    jobs = {
        f"{JOBS}:WordCount": chaos_jobs.WordCount,
        f"{CLUSTER_JOBS}:InvertedIndex": chaos_cluster_jobs.InvertedIndex,
        f"{JOBS}:TwoSteps": chaos_jobs.TwoSteps,
    }
    options = ["--split-size", str(size), "--reducers", "4"]
    for name, job in jobs.items():
        job.run(text, s.folder / "calm", on="inline", split_size=size, reducers=4, overwrite=True)
        summary = s.finish(s.run(name, text, s.folder / "out", "--overwrite", *options, prefix=prefix))
        assert read_output(s.folder / "out") == read_output(s.folder / "calm")
        assert summary["failed_attempts"] == 0, s.said()
    s.assert_clean(s.folder)


@pytest.mark.soak
def test_three_agents_make_the_same_bytes_as_inline(tmp_path: Path) -> None:
    with network(4) as net:
        pass
    if isinstance(net, str):  # then three data directories, whose workers fetch from each other all the same
        with site(tmp_path, workers=3) as s:
            run_three_jobs(s, ())
            s.end()
        return
    with machines(tmp_path) as s:
        run_three_jobs(s, client_prefix(s))
        assert s.network is not None and s.network.frames > 300, "nothing went over the network"
        s.end()


def begin(s: Site, pause: float = 0.4) -> Command:
    """Begin a job of many tasks, each of which takes a while."""
    ranges = write_ranges(s.folder / "ranges.txt", NUMBERS, 12)
    options = ["--split-size", "12", "--reducers", "6", "--set", f"keys={KEYS}", "--set", f"pause={pause}"]
    return s.run(f"{CLUSTER_JOBS}:Spread", ranges, s.folder / "out", *options, prefix=client_prefix(s))


def check(s: Site) -> None:
    rows = {int(key): value for key, value in read_rows(s.folder / "out").items()}
    assert rows == expected_spread(NUMBERS, KEYS)


CUTS = {
    "from-agent": [(1, 0)],
    "to-agent": [(0, 1)],
    "between-agents": [(1, 2)],
    "from-agent-to-all": [(1, 0), (1, 2), (1, 3)],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "healed", [pytest.param(False, id="for-good"), pytest.param(True, id="healed", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize(
    "cut",
    [
        "from-agent-to-all",
        *(pytest.param(name, marks=pytest.mark.soak) for name in ("from-agent", "to-agent", "between-agents")),
    ],
)
def test_a_one_way_partition(cut: str, healed: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with machines(tmp_path, limit="1.5s") as s:
        net = s.network
        assert net is not None
        client = begin(s)
        s.wait_until(lambda: len(s.workers[0].blocks()) >= 2)
        net.cut = set(CUTS[cut])
        if healed:
            time.sleep(3)
            net.cut = set()
        s.finish(client, 200)
        check(s)
        net.cut = set()
        s.wait_until(lambda: not s.blocks())
        s.assert_clean(tmp_path)
        s.end()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_thirty_percent_of_all_packets_are_lost(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with machines(tmp_path, seed=seed, mtu=1500, limit="10s") as s:
        net = s.network
        assert net is not None
        net.loss = 0.3
        before = net.frames, net.lost
        summary = s.finish(begin(s, pause=0.1), 400)
        check(s)
        share = (net.lost - before[1]) / (net.frames - before[0])
        assert 0.2 < share < 0.4
        net.loss = 0.0
        s.assert_clean(tmp_path)
        s.end()
    seconds, failed = summary["seconds"], summary["failed_attempts"]
    record_property("note", f"30 % of packets lost, seed {seed}: {seconds:.0f} s, {failed} attempts failed")
