"""The same job gives the same bytes, wherever and however it runs, and whatever is killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jobs
import pytest

from gristmill import MapReduce


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 600 KB of text in three files, with words of very different frequency and some CRLF."""
    return write_texts(tmp_path_factory.mktemp("texts"), 36_000)


@pytest.fixture(scope="module")
def short_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The like, of a fifth."""
    return write_texts(tmp_path_factory.mktemp("short_texts"), 7_200)


def write_texts(folder: Path, words_each: int) -> Path:
    chance = random.Random(7)
    words = [f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}{'uvwxyzéñλж'[i // 100 % 10]}" for i in range(1000)]
    words += ["the", "stopword"]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for number, ending in enumerate(("\n", "\r\n", "\n")):
        drawn = iter(chance.choices(words, weights, k=words_each))
        lines = [" ".join(line) for line in zip(*[drawn] * 9, strict=False)]
        (folder / f"book{number}.txt").write_bytes((ending.join(lines) + ending * number).encode())
    return folder


def output_of(job: type[MapReduce], inputs: Path, output: Path, **options: Any) -> dict[str, bytes]:
    job.run(inputs, output, data_dir=output.with_name("data"), **{"reducers": 7, **options})
    return parts_of(output)


def parts_of(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != "_SUCCESS"}


@pytest.fixture(scope="module")
def plain(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return output_of(jobs.WordCount, texts, tmp_path_factory.mktemp("plain") / "out", on="inline")


def test_the_words_are_right(texts: Path, plain: dict[str, bytes]) -> None:
    expected = Counter(word for path in texts.iterdir() for word in jobs.WORD.findall(path.read_text()))
    lines = [line for part in sorted(plain) for line in plain[part].decode().splitlines()]
    assert {word: int(count) for word, count in (line.split("\t") for line in lines)} == expected
    assert sorted(plain) == [f"part-r-{n:05d}" for n in range(7)]
    for part in plain.values():
        words = [line.split(b"\t")[0] for line in part.splitlines()]
        assert words == sorted(words)


@pytest.mark.parametrize(
    "options",
    [
        {"on": "inline", "split_size": "1KiB"},
        {"on": "inline", "combiner": False},
        {"on": "local", "executors": 1},
        {"on": "local", "executors": 2, "split_size": "64KiB", "memory": "128MiB"},
        {"on": "local", "executors": 5, "split_size": "64MiB", "memory": "2GiB"},
        {"on": "local", "executors": 2, "combiner": False, "split_size": "64KiB"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_sums_are_the_same_bytes(texts: Path, plain: dict[str, bytes], tmp_path: Path, options: Any) -> None:
    assert output_of(jobs.WordCount, texts, tmp_path / "out", **options) == plain


def output_with_hash_seed(seed: str, inputs: Path, output: Path) -> dict[str, bytes]:
    command = [sys.executable, "-m", "gristmill.cli.main", "run", f"{jobs.__file__}:WordCount", str(inputs)]
    options = ["-o", str(output), "--reducers", "7", "--executors", "2", "--data-dir", str(output.with_name("data"))]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    subprocess.run([*command, *options], env=environment, check=True, timeout=60, capture_output=True)
    return parts_of(output)


def output_under_fire(word: str, inputs: Path, output: Path) -> dict[str, bytes]:
    """One executor dies at a word in a mapper, and one at the same word in a reducer."""
    marker = output.with_name("died")
    result = jobs.DyingWordCount.run(
        inputs,
        output,
        params={"die_at": word, "marker": str(marker)},
        executors=2,
        split_size="64KiB",
        reducers=7,
        data_dir=output.with_name("data"),
    )
    assert marker.with_name("died-map").exists()
    assert marker.with_name("died-reduce").exists()
    summary = result.summary()
    assert summary["failed_attempts"] == 2
    assert summary["attempts"] == summary["map_tasks"] + summary["reduce_tasks"] + 2
    return parts_of(output)


def test_the_hash_seed_of_the_caller_does_not_matter(texts: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    for seed in ("1", "77"):
        assert output_with_hash_seed(seed, texts, tmp_path / f"out{seed}") == plain


def test_executors_killed_in_map_and_in_reduce(texts: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    assert output_under_fire("stopword", texts, tmp_path / "out") == plain


@pytest.mark.parametrize("executors", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("job", [jobs.Index, jobs.Joined, jobs.TopWords, jobs.Lines, jobs.Remembering])
def test_every_job_is_the_same_on_every_fleet(job: Any, executors: int, short_texts: Path, tmp_path: Path) -> None:
    """With values grouped in order, with several steps and without reducers; also where sums would hide an order."""
    outputs = [
        output_of(job, short_texts, tmp_path / on, on=on, executors=executors, split_size="8KiB")
        for on in ("inline", "local")
    ]
    assert outputs[0] == outputs[1]
    assert any(outputs[0].values())


@pytest.mark.skipif("GRISTMILL_TEST_BOOKS" not in os.environ, reason="GRISTMILL_TEST_BOOKS names no folder of books")
def test_known_counts_of_real_books(tmp_path: Path) -> None:
    """Eight books of Project Gutenberg, as the MIT 6.5840 MapReduce lab has them."""
    books = Path(os.environ["GRISTMILL_TEST_BOOKS"])
    variants: list[dict[str, Any]] = [{"on": "inline"}, {"executors": 5, "split_size": "64KiB", "combiner": False}]
    variants += [{"executors": n, "split_size": size} for n, size in ((1, "64MiB"), (2, "64KiB"), (2, "1KiB"))]
    variants += [{"executors": 2, "memory": memory, "split_size": "64KiB"} for memory in ("128MiB", "8GiB")]
    outputs = [output_of(jobs.WordCount, books, tmp_path / f"{n}", **options) for n, options in enumerate(variants)]
    outputs += [output_with_hash_seed(seed, books, tmp_path / f"seed-{seed}") for seed in ("1", "77")]
    outputs.append(output_under_fire("THE", books, tmp_path / "under-fire"))
    assert all(output == outputs[0] for output in outputs)
    lines = [line.split("\t") for part in outputs[0].values() for line in part.decode().splitlines()]
    counts = {word: int(count) for word, count in lines}
    assert (sum(counts.values()), len(counts)) == (623_948, 22_107)
    assert (counts["A"], counts["ABOUT"], counts["ACT"]) == (509, 2, 8)
