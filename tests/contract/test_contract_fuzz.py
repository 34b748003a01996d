"""Random inputs, jobs and options: always right, and the same bytes for the same split size and number of reducers."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import pytest
from ray_kit import RayCluster, needs_ray

from gristmill import MapReduce

Rows = list[tuple[object, object]]  # in any order, or in the input's where keys are None
PIECES = (
    b"the",
    b"a",
    b"stopword",
    b"\xff\xfe",
    b"\xc3",
    "é".encode(),
    "中文".encode(),
    "𝔊".encode(),
    b"\x00",
    b"\x85",
    b"x\ty",
)
ENDINGS = (b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n", b"\r", b" ", b" ", b" ", b"")


def write_inputs(folder: Path, chance: random.Random, size: int) -> Path:
    """Some files, all within ``size`` pieces: empty ones, ones without a last line end, every mixture of line ends."""
    folder.mkdir()
    for number in range(chance.randrange(1, 6)):
        count = chance.choice((0, 1, 2, size // 4, size // 2))
        pieces = (chance.choice(PIECES) + chance.choice(ENDINGS) for _ in range(count))
        (folder / f"f{number}.txt").write_bytes(b"".join(pieces))
    return folder


# The oracle: what each job gives, in plain Python, as lines of text output.


def lines_in(folder: Path) -> list[str]:
    """All lines, by the rules of the text format: LF or CRLF ends a line, and the last may lack it."""
    rows: list[str] = []
    for path in sorted(folder.iterdir()):
        lines = path.read_bytes().split(b"\n")
        last = lines.pop()
        rows += [line.removesuffix(b"\r").decode("utf-8", "surrogateescape") for line in lines]
        rows += [last.decode("utf-8", "surrogateescape")] if last else []
    return rows


def words(folder: Path) -> Rows:
    counts = Counter(word for line in lines_in(folder) for word in jobs.WORD.findall(line))
    return list(counts.items())


def index(folder: Path) -> Rows:
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.iterdir():
        for word in jobs.WORD.findall(path.read_bytes().decode("utf-8", "surrogateescape")):
            found[word].add(path.name)
    return [(word, ",".join(sorted(names))) for word, names in found.items()]


def joined(folder: Path) -> Rows:
    found: dict[int, list[str]] = defaultdict(list)
    for line in lines_in(folder):
        found[len(line) % 5].append(line)
    return [(length, "|".join(lines)) for length, lines in found.items()]


def top_words(folder: Path) -> Rows:
    counts = Counter(word for line in lines_in(folder) for word in jobs.WORD.findall(line))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]


def lines_with_the(folder: Path) -> Rows:
    return [(None, line) for line in lines_in(folder) if "the" in line]


ORACLES: dict[type[MapReduce], Callable[[Path], Rows]] = {
    jobs.WordCount: words,
    jobs.Index: index,
    jobs.Joined: joined,
    jobs.TopWords: top_words,
    jobs.Lines: lines_with_the,
}


def output_of(job: type[MapReduce], inputs: Path, output: Path, **options: Any) -> dict[str, bytes]:
    job.run(inputs, output, data_dir=output.with_name("data"), **options)
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if path.name != "_SUCCESS"}


def check(seed: int, folder: Path, size: int, on: tuple[str, ...]) -> None:
    """One random job over one random input, in several ways."""
    chance = random.Random(seed)
    inputs = write_inputs(folder / "in", chance, size)
    job = chance.choice(list(ORACLES))
    fixed = {"split_size": chance.choice((1, 2, 7, 64, 1000, 1 << 20)), "reducers": chance.choice((1, 2, 3, 8))}
    outputs = []
    for number, where in enumerate(on):
        free = {"executors": chance.randrange(1, 5), "memory": chance.choice(("256MiB", "500MiB", "2GiB"))}
        if job is not jobs.Index:  # its values are the only ones that a combiner could not put together
            free["combiner"] = chance.random() < 0.5
        if where != "inline":  # a task for each byte would take long there
            total = sum(path.stat().st_size for path in inputs.iterdir())
            fixed["split_size"] = max(fixed["split_size"], total // 20, 1)
        outputs.append(output_of(job, inputs, folder / f"out{number}", on=where, **fixed, **free))
    what = f"{job.__name__} with {fixed}, seed {seed}"
    assert all(output == outputs[0] for output in outputs), f"different bytes: {what}"
    found = [part.decode("utf-8", "surrogateescape").split("\n")[:-1] for part in outputs[0].values()]
    assert_keys_ascend(job, found)
    lines = [line for part in found for line in part]
    expected = [written(key, value) for key, value in ORACLES[job](inputs)]
    if job is jobs.Lines:
        assert lines == expected, what
    else:
        assert sorted(lines) == sorted(expected), what


def assert_keys_ascend(job: type[MapReduce], parts: list[list[str]]) -> None:
    """Within each part of a job whose reducer keeps its keys."""
    if job in (jobs.WordCount, jobs.Index, jobs.Joined):
        for part in parts:
            keys = [line.split("\t")[0] for line in part]
            assert keys == sorted(set(keys))


def written(key: object, value: object) -> str:
    """A row as the text format writes it. No key here needs to be escaped."""
    text = str(value).replace("\t", "\\t")
    return text if key is None else f"{key}\t{text}"


@pytest.mark.parametrize("seeds", [range(n, n + 5) for n in (0,)], ids=lambda seeds: f"from-{seeds[0]}")
def test_random_jobs_inline(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        check(seed, folder, 60, ("inline", "inline"))


@pytest.mark.parametrize("seed", range(1000, 1001))
def test_random_jobs_on_executors(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path, 400, ("local", "inline", "local"))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(2000, 2600, 100))
def test_many_random_jobs_inline(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check(seed, folder, 120, ("inline", "inline"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(9000, 9100))
def test_many_random_jobs_on_executors(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path, 3000, ("local", "inline", "local"))


@needs_ray
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(12000, 12020), ids=lambda seed: f"ray-{seed}")
def test_many_random_jobs_on_ray(seed: int, on_ray: RayCluster, tmp_path: Path) -> None:
    check(seed, tmp_path, 3000, ("ray", "inline"))
