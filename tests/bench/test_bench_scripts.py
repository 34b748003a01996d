"""The benchmarks still run, and the scripts by hand, which the engine is compared with, are right."""

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"


def load(name: str) -> ModuleType:
    """A script of bench/ as a module, under a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location(f"bench_{name.replace('/', '_')}", BENCH / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(
    text=st.text("ab \n\u00e9", max_size=60).map(lambda text: text.encode()),
    ranges=st.integers(1, 4),
    block_bytes=st.integers(1, 20),
)
def test_word_count_by_hand_counts_each_word_once(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, ranges: int, block_bytes: int
) -> None:
    script = load("by_hand/wordcount")
    script.BLOCK_BYTES = block_bytes
    path = tmp_path_factory.getbasetemp() / "by-hand.txt"
    path.write_bytes(text)
    cuts = script.line_starts(str(path), ranges)
    found: Counter[str] = Counter()
    for start, end in pairwise(cuts):
        found.update(script.count_words(str(path), start, end))
    assert found == Counter(re.findall(r"[^\W\d_]+", text.decode()))


def test_sections_are_replaced_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = load("results")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    results.write_section("soak", "## Soak\n\nold")
    results.write_section("memory", "## Memory\n\nold")
    results.write_section("memory", "## Memory\n\nnew")
    text = results.RESULTS.read_text()
    assert text.count("## Memory") == text.count("## Soak") == 1
    assert "new" in text and text.index("## Memory") < text.index("## Soak")


def test_outputs_are_compared_whatever_their_files(tmp_path: Path) -> None:
    results = load("results")
    (tmp_path / "one").write_text("b\t2\na\t1\n")
    (tmp_path / "parts").mkdir()
    for name, text in (("part-0", "a\t1\n"), ("part-1", "b\t2\n"), ("_SUCCESS", "{}"), (".crc", "x")):
        (tmp_path / "parts" / name).write_text(text)
    assert results.digest(tmp_path / "one") == results.digest(tmp_path / "parts")
    (tmp_path / "one").write_text("b\t2\na\t2\n")
    assert results.digest(tmp_path / "one") != results.digest(tmp_path / "parts")


def test_pagerank_by_hand_gives_each_rank_away() -> None:
    script = load("by_hand/pagerank")
    links = {"a": ["b", "c"], "b": ["c"], "c": ["a"], "d": ["a", "a"]}
    ranks = script.one_round(links, dict.fromkeys(links, 1.0))
    assert ranks == pytest.approx({"a": 0.15 + 0.85 * 2, "b": 0.15 + 0.85 / 2, "c": 0.15 + 0.85 * 1.5})
    assert sum(script.one_round(links, ranks).values()) == pytest.approx(3 * 0.15 + 0.85 * sum(ranks.values()))


def test_ranks_are_compared_but_for_their_last_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    chains = load("chains")
    for name, text in (("one", "a\t1.5\nb\t0.25\n"), ("near", "b\t0.2500000000000001\na\t1.5\n"), ("less", "a\t1.5\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "far").write_text("a\t1.5\nb\t0.2501\n")
    one, near, less, far = (chains.ranks(tmp_path / name) for name in ("one", "near", "less", "far"))
    assert chains.same_ranks(near, one)
    assert not chains.same_ranks(less, one) and not chains.same_ranks(far, one)


def test_a_join_by_hand_has_each_row_of_the_left_table_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_BENCH_DATA", str(tmp_path))
    source = load("data").tables(1000, 100, hot=0.5)
    done = subprocess.run(
        [sys.executable, BENCH / "by_hand" / "join.py", source, tmp_path / "joined"], capture_output=True, text=True
    )
    assert done.stdout == "1,000 rows joined with 100\n", done.stderr
    partners = dict(line.split("\t") for line in (source / "right.txt").read_text().splitlines())
    joined = [line for part in sorted((tmp_path / "joined").iterdir()) for line in part.read_text().splitlines()]
    assert joined == [f"{row}\t{partners[row.split()[0]]}" for row in (source / "left.txt").read_text().splitlines()]


def test_what_is_in_the_wrong_order_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_BENCH_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(BENCH)
    script, source = load("dataset_memory"), load("data").sortable(1000)
    lines = sorted(source.read_bytes().splitlines(keepends=True))
    assert all(len(line) == 100 for line in lines) and len({line[:10] for line in lines}) == 1000
    target = tmp_path / "sorted"
    target.write_bytes(b"".join(lines))
    assert script.check_order(target, source) == ""
    target.write_bytes(b"".join([*lines[:-2], lines[-1], lines[-2]]))
    assert "comes before" in script.check_order(target, source)
    target.write_bytes(b"".join(lines[1:]))
    assert "not those of the input" in script.check_order(target, source)


TITLES = {
    "wordcount": "Word count",
    "access_log": "Access log",
    "inverted_index": "Inverted index",
    "first_result": "First result",
    "memory": "Memory",
    "tasks": "Empty tasks",
    "two_agents": "Two workers over Flight",
    "straggler": "One executor 5 × slower",
    "kill_one": "One of 3 workers killed",
    "scheduler": "Scheduler",
}
DATASET_TITLES = {
    "chain": "Word count as a chain",
    "pagerank": "PageRank",
    "join": "Join",
    "sort": "Sort",
    "skew": "Skew",
    "small_files": "Small files",
    "dataset_memory": "Memory of datasets",
}
SERVICE_TITLES = {"page": "The page, with 400 tasks"}
RAY_TITLES = {"ray_local": "On Ray", "ray_peers": "Beside Ray Data", "ray_shuffle": "Shuffle on Ray"}
HAS_RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install -e '.[ray]'")


@pytest.mark.timeout(600)  # many processes, and a machine that is busy with other tests
@pytest.mark.parametrize(
    "titles",
    [
        pytest.param(TITLES, id="jobs", marks=pytest.mark.soak),
        pytest.param(DATASET_TITLES, id="datasets", marks=pytest.mark.soak),
        pytest.param(SERVICE_TITLES, id="service", marks=pytest.mark.soak),
        pytest.param(
            RAY_TITLES,
            id="ray",
            marks=[pytest.mark.soak, pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")],
        ),
        pytest.param({name: TITLES[name] for name in ("wordcount", "tasks")}, id="some"),
    ],
)
def test_every_benchmark_runs(titles: dict[str, str]) -> None:
    command = [sys.executable, BENCH / "run.py", "--smoke", "--peers", "none", "--only", *titles]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^## (.*)$", done.stdout, re.MULTILINE) == list(titles.values())


def test_no_benchmark_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    run = load("run")
    assert list(run.measurements(run.SMOKE, smoke=True)) == [
        *(*TITLES, *DATASET_TITLES, *SERVICE_TITLES),
        *(RAY_TITLES if HAS_RAY else ()),
    ]
